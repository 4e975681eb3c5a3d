# The kernels for sm_70 by clang: a library for Volta alone.
include(cmake/Sm70.cmake)
add_sm70_objects(KERNEL_OBJECTS ${KERNELS})
set(TARGETS sm70)

add_library(trtbert_gpu INTERFACE)
target_link_libraries(trtbert_gpu INTERFACE trtbert_sm70_runtime)
