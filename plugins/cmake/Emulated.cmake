# The kernels by the C++ compiler, with plugins/emulation in place of a GPU; of CUDA only the headers are needed.
find_path(CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES include)
if(NOT CUDA_INCLUDE_DIR)
  message(FATAL_ERROR "CUDA's headers were not found; give their folder: -DCUDA_INCLUDE_DIR=/usr/local/cuda/include")
endif()

add_library(trtbert_gpu INTERFACE)
target_include_directories(trtbert_gpu SYSTEM INTERFACE "${CUDA_INCLUDE_DIR}")

add_library(trtbert_kernel_objects OBJECT ${KERNELS} emulation/cuda_runtime.cpp emulation/machine.cpp)
set_source_files_properties(${KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-include;cuda_emulation.h;-Wno-unknown-pragmas")
# Tests set the emulation up; and ThreadSanitizer is to watch the kernels, not the machine that runs them.
set_source_files_properties(emulation/cuda_runtime.cpp emulation/machine.cpp
                            PROPERTIES COMPILE_OPTIONS "-fvisibility=default;-fno-sanitize=thread")
target_include_directories(trtbert_kernel_objects PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}/emulation")
target_link_libraries(trtbert_kernel_objects PRIVATE trtbert_gpu)
target_compile_options(trtbert_kernel_objects PRIVATE -Wall -Wextra -Werror)
set(TARGETS "")
set(KERNEL_OBJECTS $<TARGET_OBJECTS:trtbert_kernel_objects>)
