// Symbolic extents, as TensorRT hands them to getOutputShapes: each has a value here, and says whether it is known while building.
#pragma once

#include <NvInferRuntime.h>

#include <deque>

namespace host {

class Expr final : public nvinfer1::IDimensionExpr, public nvinfer1::apiv::VDimensionExpr {
 public:
  Expr(int64_t value, bool is_constant) : value_(value), is_constant_(is_constant) { IDimensionExpr::mImpl = this; }
  bool isConstant() const override { return is_constant_; }
  int64_t getConstantValue() const override { return value_; }
  bool isSizeTensor() const override { return false; }

  int64_t value() const { return value_; }

 private:
  int64_t value_;
  bool is_constant_;
};

// Our plugins build constants only; an operation would come out as null and fail the check of the output.
class ExprBuilder final : public nvinfer1::IExprBuilder, public nvinfer1::apiv::VExprBuilder {
 public:
  ExprBuilder() { IExprBuilder::mImpl = this; }
  Expr const* make(int64_t value, bool is_constant) { return &exprs_.emplace_back(value, is_constant); }
  nvinfer1::IDimensionExpr const* constant(int64_t value) override { return make(value, true); }
  nvinfer1::IDimensionExpr const* operation(nvinfer1::DimensionOperation, nvinfer1::IDimensionExpr const&,
                                            nvinfer1::IDimensionExpr const&) override {
    return nullptr;
  }
  nvinfer1::IDimensionExpr const* declareSizeTensor(int32_t, nvinfer1::IDimensionExpr const&, nvinfer1::IDimensionExpr const&) override {
    return nullptr;
  }

 private:
  std::deque<Expr> exprs_;  // addresses stay
};

}  // namespace host
