// Nothing: clang's CUDA wrapper includes this header of cuRAND, which the CUDA wheels do not carry and no kernel here uses.
