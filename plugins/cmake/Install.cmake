# `cmake --install`: the library, the headers of its C interface, and a CMake package: find_package(trtbertPlugins), trtbert::plugins.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/trtbertPlugins")

foreach(library IN LISTS INSTALLED)
  string(REPLACE "trtbert_" "" exported_name ${library})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${exported_name})
  # The headers name each other from the second folder on; and cudaStream_t is CUDA's.
  target_include_directories(${library} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
                                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/trtbert>)
  target_link_libraries(${library} INTERFACE $<INSTALL_INTERFACE:CUDA::toolkit>)
endforeach()

install(TARGETS ${INSTALLED} EXPORT trtbertPluginsTargets LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
foreach(header capi.h common/dtype.h kernels/fused_bias_gelu.h kernels/fused_embed_layer_norm.h kernels/fused_qkv_attention.h
               kernels/fused_skip_layer_norm.h)
  get_filename_component(folder "${header}" DIRECTORY)
  install(FILES "${header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/trtbert/${folder}")
endforeach()
install(EXPORT trtbertPluginsTargets NAMESPACE trtbert:: DESTINATION "${package_folder}")

configure_package_config_file(cmake/trtbertPluginsConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/trtbertPluginsConfig.cmake"
                              INSTALL_DESTINATION "${package_folder}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/trtbertPluginsConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/trtbertPluginsConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/trtbertPluginsConfigVersion.cmake"
        DESTINATION "${package_folder}")
