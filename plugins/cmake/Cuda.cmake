# The kernels by nvcc, for every architecture that its CUDA 13 knows and TensorRT supports.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100-real 120) # the last in PTX too, for what comes
endif()
enable_language(CUDA)
string(REGEX REPLACE "(-real|-virtual)" "" TARGETS "${CMAKE_CUDA_ARCHITECTURES}")
list(TRANSFORM TARGETS PREPEND sm)
list(JOIN TARGETS "," TARGETS)
find_package(CUDAToolkit REQUIRED)

add_library(trtbert_kernel_objects OBJECT ${KERNELS})
set_target_properties(trtbert_kernel_objects PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden)
target_include_directories(trtbert_kernel_objects PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_compile_options(trtbert_kernel_objects PRIVATE -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror)
set(KERNEL_OBJECTS $<TARGET_OBJECTS:trtbert_kernel_objects>)

add_library(trtbert_gpu INTERFACE)
target_link_libraries(trtbert_gpu INTERFACE CUDA::cudart_static)
