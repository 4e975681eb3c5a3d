// embed PACKAGE TEXT... : prints the width of the embeddings, and how near the first text is to each.
#include <trtbert/error.h>
#include <trtbert/predictor.h>

#include <iostream>
#include <numeric>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: embed PACKAGE TEXT...\n";
    return 2;
  }
  try {
    auto const predictor = trtbert::Predictor::load(argv[1]);
    std::vector<trtbert::Text> texts;
    for (int i = 2; i < argc; ++i) {
      texts.push_back({argv[i]});
    }
    std::vector<std::vector<float>> const embeddings = predictor.embed(texts);
    std::cout << embeddings[0].size() << '\n';
    for (std::vector<float> const& other : embeddings) {
      std::cout << std::inner_product(other.begin(), other.end(), embeddings[0].begin(), 0.0F) << '\n';
    }
  } catch (trtbert::Error const& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
