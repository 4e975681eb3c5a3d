# `cmake --install`: the library, its headers, and a CMake package: find_package(trtbert), trtbert::runner.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/trtbert")

install(TARGETS trtbert_runner EXPORT trtbertTargets LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/include/trtbert" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT trtbertTargets NAMESPACE trtbert:: DESTINATION "${package_folder}" FILE trtbertConfig.cmake)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/trtbertConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/trtbertConfigVersion.cmake" DESTINATION "${package_folder}")
