// Binding of tensors: names, shapes, types, and expansion of vectors.
// SPDX-License-Identifier: Apache-2.0
#include "model/tensor_table.h"

#include <gtest/gtest.h>

#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

TensorInfo Info(const std::string& name, ElementType type, std::vector<int64_t> shape,
                const std::string& data) {
  return {name, "file.gguf", type, std::move(shape), std::as_bytes(std::span(data))};
}

TEST(TensorTable, BindsMatrices) {
  const std::string data(68, 'x');
  TensorTable table("file.gguf");
  ASSERT_TRUE(table.Add(Info("m", ElementType::kQ8_0, {2, 32}, data)).ok());
  const auto view = table.Matrix("m", 2, 32);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->rows, 2);
  EXPECT_EQ(view->cols, 32);
  EXPECT_EQ(view->row_stride_bytes, 34);
  EXPECT_EQ(view->row_data(1), reinterpret_cast<const std::byte*>(data.data()) + 34);
  EXPECT_EQ(table.Matrix("absent", 2, 32).status(),
            NotFound("file.gguf: tensor 'absent' is missing, its shape would be [2, 32]"));
  ExpectRefusal(table.Matrix("m", 32, 2).status(),
                {"file.gguf", "'m'", "must have shape [32, 2], found [2, 32]"});
  ExpectRefusal(table.Vector("m", 32).status(), {"'m'", "must have shape [32], found [2, 32]"});
  ExpectRefusal(table.Add(Info("m", ElementType::kF32, {1}, data)), {"file.gguf", "'m' is given twice"});
  ASSERT_TRUE(table.Add(Info("short", ElementType::kF32, {2, 32}, data)).ok());
  ExpectRefusal(table.Matrix("short", 2, 32).status(), {"'short' has 68 bytes", "needs 256"});
  ASSERT_TRUE(table.Add(Info("ragged", ElementType::kQ8_0, {2, 33}, data)).ok());
  ExpectRefusal(table.Matrix("ragged", 2, 33).status(), {"'ragged'", "33 columns", "block of 32"});
}

TEST(TensorTable, OrdersTypesByTheirBytes) {
  const std::string forty(40, 'x'), thirty(30, 'x');
  TensorTable table("file.gguf");
  EXPECT_TRUE(table.TypesByBytes().empty());
  ASSERT_TRUE(table.Add(Info("a", ElementType::kF32, {10}, forty)).ok());
  ASSERT_TRUE(table.Add(Info("b", ElementType::kF16, {15}, thirty)).ok());
  ASSERT_TRUE(table.Add(Info("c", ElementType::kF16, {15}, thirty)).ok());
  EXPECT_EQ(table.TypesByBytes(), (std::vector{ElementType::kF16, ElementType::kF32}));
}

TEST(TensorTable, ExpandsVectors) {
  TensorTable table("file.gguf");
  // 1, -2, the least subnormal half; the same in each type as far as it holds it.
  const std::string f32 = LittleEndian(1.0f) + LittleEndian(-2.0f) + LittleEndian(0x1p-24f);
  const std::string f16 =
      LittleEndian<uint16_t>(0x3C00) + LittleEndian<uint16_t>(0xC000) + LittleEndian<uint16_t>(1);
  const std::string bf16 =
      LittleEndian<uint16_t>(0x3F80) + LittleEndian<uint16_t>(0xC000) + LittleEndian<uint16_t>(0x3380);
  ASSERT_TRUE(table.Add(Info("f32", ElementType::kF32, {3}, f32)).ok());
  ASSERT_TRUE(table.Add(Info("f16", ElementType::kF16, {3}, f16)).ok());
  ASSERT_TRUE(table.Add(Info("bf16", ElementType::kBF16, {3}, bf16)).ok());
  for (const char* name : {"f32", "f16", "bf16"}) {
    const auto values = table.Vector(name, 3);
    ASSERT_TRUE(values.ok()) << values.status();
    EXPECT_THAT(*values, testing::ElementsAre(1.0f, -2.0f, 0x1p-24f)) << name;
  }
  const std::string block(18, '\0');
  ASSERT_TRUE(table.Add(Info("q", ElementType::kQ4_0, {32}, block)).ok());
  ExpectRefusal(table.Vector("q", 32).status(), {"file.gguf", "'q'", "Q4_0", "F32, F16 or BF16"});
  ASSERT_TRUE(table.Add(Info("short", ElementType::kF32, {4}, f32)).ok());
  ExpectRefusal(table.Vector("short", 4).status(), {"'short' has 12 bytes", "needs 16"});
}

TEST(TensorTable, UnreadableTensorsAreRefusedOnlyWhenAskedFor) {
  TensorTable table("folder");
  ASSERT_TRUE(table.AddUnreadable("ids", "I64", "folder/model.safetensors").ok());
  EXPECT_EQ(table.Find("ids"), nullptr);
  EXPECT_TRUE(table.Contains("ids"));
  EXPECT_TRUE(table.tensors().empty());
  ExpectRefusal(table.Vector("ids", 4).status(),
                {"folder/model.safetensors", "'ids'", "I64", "not supported"});
  ExpectRefusal(table.AddUnreadable("ids", "I64", "x"), {"'ids' is given twice"});
}

}  // namespace
}  // namespace thermocline
