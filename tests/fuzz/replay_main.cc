// Runs a fuzz harness without libFuzzer: its seeds, a corpus, and mutations, the same ones each time.
// SPDX-License-Identifier: Apache-2.0
//
// usage: HARNESS [--mutations N] [FILE|FOLDER ...]
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/fuzz/fuzz_target.h"

namespace thermocline {
namespace {

using Random = std::mt19937_64;  // its sequence is fixed by the standard

size_t Below(Random& random, size_t limit) { return static_cast<size_t>(random() % limit); }

// Values at which lengths, counts and offsets go wrong.
constexpr uint64_t kBoundaries[] = {0,
                                    1,
                                    2,
                                    7,
                                    0x7F,
                                    0x80,
                                    0xFF,
                                    0x7FFF,
                                    0xFFFF,
                                    0x7FFFFFFF,
                                    0x80000000,
                                    0xFFFFFFFF,
                                    uint64_t{1} << 32,
                                    uint64_t{1} << 61,
                                    uint64_t{1} << 62,
                                    uint64_t{1} << 63,
                                    ~uint64_t{0} - 31,
                                    ~uint64_t{0}};

void MutateOnce(Random& random, const std::vector<std::string>& seeds, std::string& input) {
  const size_t at = Below(random, input.size() + 1);
  const size_t length = 1 + Below(random, 16);
  switch (Below(random, 7)) {
    case 0:  // flip a bit
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(random, 8)));
      break;
    case 1:  // any byte
      if (at < input.size()) input[at] = static_cast<char>(random());
      break;
    case 2: {  // a boundary value of 1, 2, 4 or 8 bytes
      uint64_t value = kBoundaries[Below(random, std::size(kBoundaries))];
      const size_t width = size_t{1} << Below(random, 4);
      for (size_t i = at; i < std::min(at + width, input.size()); ++i, value >>= 8) {
        input[i] = static_cast<char>(value);
      }
      break;
    }
    case 3:  // remove
      input.erase(at, length);
      break;
    case 4:  // repeat
      input.insert(at, input.substr(at, length));
      break;
    case 5: {  // splice from a seed
      const std::string& other = seeds[Below(random, seeds.size())];
      input.insert(at, other.substr(Below(random, other.size() + 1), length));
      break;
    }
    default:  // cut off
      input.resize(at);
  }
}

void RunOne(const std::string& input) {
  // A copy of exactly its size, so that AddressSanitizer sees any read past the end.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

int Main(std::span<char*> arguments) {
  uint64_t mutations = 20000;
  std::vector<std::string> seeds = FuzzSeeds();
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string argument = arguments[i];
    if (argument == "--mutations" && i + 1 < arguments.size()) {
      mutations = std::strtoull(arguments[++i], nullptr, 10);
    } else if (std::filesystem::is_directory(argument)) {
      std::vector<std::filesystem::path> paths;
      for (const auto& entry : std::filesystem::recursive_directory_iterator(argument)) {
        if (entry.is_regular_file()) paths.push_back(entry.path());
      }
      std::sort(paths.begin(), paths.end());
      for (const auto& path : paths) seeds.push_back(ReadAll(path));
    } else if (std::filesystem::is_regular_file(argument)) {
      seeds.push_back(ReadAll(argument));
    } else {
      std::fprintf(stderr, "%s: neither a file nor a folder\n", argument.c_str());
      return 2;
    }
  }
  for (const std::string& seed : seeds) RunOne(seed);
  Random random(20240607);
  for (uint64_t i = 0; i < mutations; ++i) {
    std::string input = seeds[Below(random, seeds.size())];
    for (size_t round = 1 + Below(random, 4); round > 0; --round) MutateOnce(random, seeds, input);
    RunOne(input);
  }
  std::printf("%zu seeds and %llu mutations held\n", seeds.size(),
              static_cast<unsigned long long>(mutations));
  return 0;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) { return thermocline::Main({argv, static_cast<size_t>(argc)}); }
