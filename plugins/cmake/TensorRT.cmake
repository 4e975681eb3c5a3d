# TensorRT's headers. No library of TensorRT's is linked: the plugins call it only through the pointers that it hands them.
find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h DOC "The folder of TensorRT's headers")
if(NOT EXISTS "${TENSORRT_INCLUDE_DIR}/NvInferRuntime.h" AND NOT EXISTS "${CMAKE_SOURCE_DIR}/${TENSORRT_INCLUDE_DIR}/NvInferRuntime.h")
  message(FATAL_ERROR "TensorRT's headers were not found (TENSORRT_INCLUDE_DIR is '${TENSORRT_INCLUDE_DIR}'). Fetch them: plugins/scripts/fetch-tensorrt-headers build/tensorrt-headers, "
                      "and give -DTENSORRT_INCLUDE_DIR=build/tensorrt-headers. Or build the kernels alone: cmake --preset kernels")
endif()
get_filename_component(TENSORRT_INCLUDE_DIR "${TENSORRT_INCLUDE_DIR}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")

add_library(trtbert_tensorrt INTERFACE)
target_include_directories(trtbert_tensorrt SYSTEM INTERFACE "${TENSORRT_INCLUDE_DIR}")
