// Sorts by length and cuts.
#include "predictor/batches.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace trtbert {
namespace {

// Of the profiles that take the length, one that needs no filling up, with the largest batch; null for an engine without any.
Profile const* choose_profile(size_t length, size_t num_texts, std::vector<Profile> const& profiles) {
  Profile const* best = nullptr;
  auto const rank = [&](Profile const& p) { return std::tuple(p.batch_size.min <= static_cast<int64_t>(num_texts), p.batch_size.max); };
  for (Profile const& profile : profiles) {
    bool const is_fitting = !profile.length || static_cast<int64_t>(length) <= profile.length->max;
    if (is_fitting && (best == nullptr || rank(profile) > rank(*best))) {
      best = &profile;
    }
  }
  return best;
}

}  // namespace

std::vector<Batch> plan_batches(std::vector<size_t> const& lengths, std::vector<Profile> const& profiles, size_t max_tokens) {
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  std::vector<Batch> batches;
  for (size_t done = 0; done < order.size();) {
    size_t const rest = order.size() - done;
    size_t length = std::max(lengths[order[done]], size_t{1});
    Profile const* const profile = choose_profile(length, rest, profiles);
    if (profile != nullptr && profile->length) {
      length = std::max(length, static_cast<size_t>(profile->length->min));
    }
    size_t most = std::max(size_t{1}, max_tokens / length), fewest = 1;
    if (profile != nullptr) {
      fewest = static_cast<size_t>(profile->batch_size.min);
      most = std::min(static_cast<size_t>(profile->batch_size.max), std::max(most, fewest));
    }
    size_t const size = std::min(most, rest);
    auto const begin = order.begin() + static_cast<std::ptrdiff_t>(done);
    batches.push_back({{begin, begin + static_cast<std::ptrdiff_t>(size)}, length, std::max(size, fewest)});
    done += size;
  }
  return batches;
}

size_t longest_length(Manifest const& manifest) {
  int64_t longest = manifest.profiles.empty() ? manifest.max_length : 0;
  for (Profile const& profile : manifest.profiles) {
    longest = std::max(longest, profile.length ? profile.length->max : manifest.max_length);
  }
  return static_cast<size_t>(std::min(longest, manifest.max_length));
}

}  // namespace trtbert
