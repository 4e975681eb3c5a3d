// Tensors in the element types of TensorRT.
#include "tensors.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

#include "check.h"

namespace host {
namespace {

using nvinfer1::DataType;

template <class T, class Convert>
std::vector<char> encode_as(Values const& values, Convert const& convert) {
  std::vector<char> bytes(values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T const element = convert(values[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &element, sizeof(T));
  }
  return bytes;
}

template <class T, class Convert>
Values decode_as(std::vector<char> const& bytes, Convert const& convert) {
  Values values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T element;
    std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(element);
  }
  return values;
}

}  // namespace

int64_t num_elements(Shape const& shape) {
  int64_t count = 1;
  for (int64_t const extent : shape) {
    count *= extent;
  }
  return count;
}

nvinfer1::Dims dims_of(Shape const& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    dims.d[i] = shape[i];
  }
  return dims;
}

char const* name_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return "FP32";
    case DataType::kHALF:
      return "FP16";
    case DataType::kBF16:
      return "BF16";
    case DataType::kINT8:
      return "INT8";
    case DataType::kINT32:
      return "INT32";
    default:
      return "another type";
  }
}

std::vector<char> encode(Values const& values, DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return encode_as<float>(values, [](double v) { return static_cast<float>(v); });
    case DataType::kHALF:
      return encode_as<__half>(values, [](double v) { return __float2half_rn(static_cast<float>(v)); });
    case DataType::kBF16:
      return encode_as<__nv_bfloat16>(values, [](double v) { return __float2bfloat16_rn(static_cast<float>(v)); });
    case DataType::kINT8:
      return encode_as<int8_t>(values, [](double v) { return static_cast<int8_t>(std::lrint(v)); });
    case DataType::kINT32:
      return encode_as<int32_t>(values, [](double v) { return static_cast<int32_t>(std::lrint(v)); });
    default:
      throw Failure("the host has no such type");
  }
}

Values decode(std::vector<char> const& bytes, DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return decode_as<float>(bytes, [](float v) { return v; });
    case DataType::kHALF:
      return decode_as<__half>(bytes, [](__half v) { return __half2float(v); });
    case DataType::kBF16:
      return decode_as<__nv_bfloat16>(bytes, [](__nv_bfloat16 v) { return __bfloat162float(v); });
    case DataType::kINT8:
      return decode_as<int8_t>(bytes, [](int8_t v) { return v; });
    case DataType::kINT32:
      return decode_as<int32_t>(bytes, [](int32_t v) { return v; });
    default:
      throw Failure("the host has no such type");
  }
}

}  // namespace host
