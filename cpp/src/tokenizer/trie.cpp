// Fills the double array: the children of a node lie at its base plus their byte, where no other child lies.
#include "tokenizer/trie.h"

#include <algorithm>

namespace trtbert {

Trie::Trie(Words words) : nodes_(1) {
  nodes_[0].parent = kRoot - 2;  // nobody's child
  std::sort(words.begin(), words.end());
  std::vector<Branch> rest{{kRoot, 0, words.size(), 0}};
  while (!rest.empty()) {
    Branch const branch = rest.back();
    rest.pop_back();
    add_children(words, branch, rest);
  }
}

int32_t Trie::node_of(std::string_view text) const {
  int32_t node = kRoot;
  for (char const byte : text) {
    node = step(node, static_cast<unsigned char>(byte));
    if (node < 0) {
      return kNone;
    }
  }
  return node;
}

// The words of the branch have their first `depth` bytes in common, which lead to its node.
void Trie::add_children(Words const& words, Branch branch, std::vector<Branch>& rest) {
  if (branch.begin < branch.end && words[branch.begin].first.size() == branch.depth) {
    nodes_[static_cast<size_t>(branch.node)].value = words[branch.begin++].second;
  }
  std::vector<unsigned char> bytes;
  size_t const first_child = rest.size();
  for (size_t i = branch.begin; i < branch.end; ++i) {
    auto const byte = static_cast<unsigned char>(words[i].first[branch.depth]);
    if (bytes.empty() || bytes.back() != byte) {
      bytes.push_back(byte);
      rest.push_back({0, i, i, branch.depth + 1});
    }
    rest.back().end = i + 1;
  }
  if (bytes.empty()) {
    return;
  }
  int32_t const base = find_base(bytes);
  nodes_[static_cast<size_t>(branch.node)].base = base;
  for (size_t i = 0; i < bytes.size(); ++i) {
    rest[first_child + i].node = base + bytes[i];
    nodes_[static_cast<size_t>(base + bytes[i])].parent = branch.node;
  }
}

int32_t Trie::find_base(std::vector<unsigned char> const& bytes) {
  constexpr int kMaxTries = 64;
  auto const is_free = [&](int32_t place) {
    return static_cast<size_t>(place) >= nodes_.size() || nodes_[static_cast<size_t>(place)].parent == kNone;
  };
  auto const fits = [&](int32_t place) {
    return std::all_of(bytes.begin(), bytes.end(), [&](unsigned char byte) { return is_free(place - bytes.front() + byte); });
  };
  while (!is_free(first_free_)) {
    ++first_free_;
  }
  int32_t place = std::max(first_free_, static_cast<int32_t>(bytes.front()) + 1);
  for (int tries = 0; !fits(place); ++place) {
    if (is_free(place) && ++tries > kMaxTries) {
      first_free_ = place;  // Few holes are left below: to go through them each time costs more than they are worth.
    }
  }
  int32_t const base = place - bytes.front();
  nodes_.resize(std::max(nodes_.size(), static_cast<size_t>(base) + bytes.back() + 1));
  return base;
}

}  // namespace trtbert
