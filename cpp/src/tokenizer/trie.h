// Words -> their numbers, found by the longest word that a text begins with. A double array: a step is two reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trtbert {

class Trie {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kRoot = 0;

  // The words are different from each other, and none is empty.
  explicit Trie(std::vector<std::pair<std::string, int32_t>> words);

  struct Match {
    int32_t value;  // kNone where there is none
    size_t size;    // in bytes
  };
  // The longest word, without the part that leads to `node`, at the beginning of `text`.
  Match longest(std::string_view text, int32_t node = kRoot) const {
    Match match{kNone, 0};
    for (size_t i = 0; i < text.size(); ++i) {
      node = step(node, static_cast<unsigned char>(text[i]));
      if (node < 0) {
        break;
      }
      if (int32_t const value = nodes_[static_cast<size_t>(node)].value; value != kNone) {
        match = {value, i + 1};
      }
    }
    return match;
  }
  // The node behind `text`, kNone where no word begins so.
  int32_t node_of(std::string_view text) const;

 private:
  struct Node {
    int32_t base = 0;
    int32_t parent = kNone;
    int32_t value = kNone;
  };
  struct Branch {
    int32_t node;
    size_t begin;  // of the words that lead through it
    size_t end;
    size_t depth;
  };
  using Words = std::vector<std::pair<std::string, int32_t>>;

  int32_t step(int32_t node, unsigned char byte) const {
    int32_t const child = nodes_[static_cast<size_t>(node)].base + byte;
    return static_cast<size_t>(child) < nodes_.size() && nodes_[static_cast<size_t>(child)].parent == node ? child : kNone;
  }
  void add_children(Words const& words, Branch branch, std::vector<Branch>& rest);
  int32_t find_base(std::vector<unsigned char> const& bytes);

  std::vector<Node> nodes_;
  int32_t first_free_ = 1;
};

}  // namespace trtbert
