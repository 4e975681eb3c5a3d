# The headers of TensorRT and of CUDA. Neither is linked: their libraries are loaded when a package needs them.
include("${CMAKE_SOURCE_DIR}/plugins/cmake/TensorRT.cmake")
find_path(CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS "$ENV{CUDA_HOME}/include" /usr/local/cuda/include DOC "The folder of CUDA's headers")
if(NOT CUDA_INCLUDE_DIR)
  message(FATAL_ERROR "CUDA's headers were not found. Install the CUDA toolkit, and give -DCUDA_INCLUDE_DIR=DIR, the folder of cuda_runtime_api.h")
endif()
target_include_directories(trtbert_tensorrt SYSTEM INTERFACE "${CUDA_INCLUDE_DIR}")
