# A .cu -> an object with sm_70 code in it, by the compiler that plugins/scripts/install-sm70-toolchain made (nvcc 13 has no sm_70).
#
#   include(plugins/cmake/Sm70.cmake)
#   add_sm70_objects(objects kernels/a.cu kernels/b.cu)    # objects: the files of the objects
#   target_sources(trtbert_plugins PRIVATE ${objects})
#   target_link_libraries(trtbert_plugins PRIVATE trtbert_sm70_runtime)
#
# Such a library is for Volta alone: leave CMake's CUDA language and its own cudart out of it.
set(TRTBERT_SM70_TOOLCHAIN "" CACHE PATH "The folder that plugins/scripts/install-sm70-toolchain made")
if(NOT EXISTS "${TRTBERT_SM70_TOOLCHAIN}/recipe")
  message(FATAL_ERROR "TRTBERT_SM70_TOOLCHAIN is '${TRTBERT_SM70_TOOLCHAIN}', which holds no sm_70 toolchain; make one: "
                      "plugins/scripts/install-sm70-toolchain DIR, and set TRTBERT_SM70_TOOLCHAIN=DIR")
endif()
get_filename_component(TRTBERT_SM70_TOOLCHAIN "${TRTBERT_SM70_TOOLCHAIN}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")
get_filename_component(TRTBERT_SM70_COMPILE "${CMAKE_CURRENT_LIST_DIR}/../scripts/sm70-compile" ABSOLUTE)

# The headers and the static runtime of CUDA 12.9.
find_package(Threads REQUIRED)
add_library(trtbert_sm70_runtime INTERFACE)
target_include_directories(trtbert_sm70_runtime SYSTEM INTERFACE "${TRTBERT_SM70_TOOLCHAIN}/cuda/include")
target_link_libraries(trtbert_sm70_runtime INTERFACE "${TRTBERT_SM70_TOOLCHAIN}/cuda/lib/libcudart_static.a" Threads::Threads
                                                     ${CMAKE_DL_LIBS} rt)

function(add_sm70_objects result)
  set(objects)
  foreach(source IN LISTS ARGN)
    get_filename_component(path "${source}" ABSOLUTE)
    get_filename_component(name "${source}" NAME)
    set(object "${CMAKE_CURRENT_BINARY_DIR}/sm70/${name}.o")
    add_custom_command(
      OUTPUT "${object}"
      COMMAND "${CMAKE_COMMAND}" -E make_directory "${CMAKE_CURRENT_BINARY_DIR}/sm70"
      COMMAND "${TRTBERT_SM70_COMPILE}" "${TRTBERT_SM70_TOOLCHAIN}" "${path}" "${object}"
      DEPENDS "${path}" "${TRTBERT_SM70_COMPILE}" "${TRTBERT_SM70_TOOLCHAIN}/recipe"
      DEPFILE "${object}.d"
      COMMENT "Compiling ${name} for sm_70"
      VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  set(${result} ${objects} PARENT_SCOPE)
endfunction()
