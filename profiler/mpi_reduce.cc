// Profiles summed with MPI_Reduce.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/mpi_reduce.h"

#define OMPI_SKIP_MPICXX 1  // Open MPI's C++ bindings are deprecated and not used
#include <mpi.h>

#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checked.h"

namespace thermocline {
namespace {

absl::Status Check(int code, const char* call) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return Internal("{}: {}", call, std::string_view(text, static_cast<size_t>(length)));
}

// Rank 0's text on every rank.
absl::StatusOr<std::string> OfRankZero(std::string text) {
  auto length = static_cast<int64_t>(text.size());
  TC_RETURN_IF_ERROR(Check(MPI_Bcast(&length, 1, MPI_INT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast"));
  text.resize(static_cast<size_t>(length));
  TC_RETURN_IF_ERROR(
      Check(MPI_Bcast(text.data(), static_cast<int>(length), MPI_CHAR, 0, MPI_COMM_WORLD), "MPI_Bcast"));
  return text;
}

// Whether the condition holds on every rank.
absl::StatusOr<bool> OnAllRanks(bool condition) {
  int mine = condition ? 1 : 0, all = 0;
  TC_RETURN_IF_ERROR(Check(MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce"));
  return all == 1;
}

// What must be the same everywhere before counts may be added.
std::string Identity(const ActivationProfile& profile) {
  return fmt::format("model {}, {} {}, threshold {}, {} layers, d_model {}, d_ff {}", profile.model_sha256,
                     profile.architecture, profile.activation, profile.threshold, profile.layers.size(),
                     profile.d_model, profile.d_ff);
}

std::string Place(const CorpusPosition& corpus) {
  return fmt::format("{} {} {} {} {} {} {}", corpus.size_bytes, corpus.consumed_bytes, corpus.consumed_tokens,
                     corpus.windows, corpus.window_tokens, corpus.held_out_every, corpus.file);
}

// The sum over all ranks, on all of them, so that all refuse one that does not fit. As counts are no larger
// than their tokens, their sums fit when the tokens' do.
absl::StatusOr<int64_t> SumOfTokens(int64_t tokens, int ranks) {
  std::vector<int64_t> all(static_cast<size_t>(ranks));
  TC_RETURN_IF_ERROR(Check(MPI_Allgather(&tokens, 1, MPI_INT64_T, all.data(), 1, MPI_INT64_T, MPI_COMM_WORLD),
                           "MPI_Allgather"));
  int64_t sum = 0;
  for (const int64_t more : all) {
    if (__builtin_add_overflow(sum, more, &sum)) {
      return OutOfRange("the tokens of all ranks together are more than {}",
                        std::numeric_limits<int64_t>::max());
    }
  }
  return sum;
}

// On rank 0 `values` become the sums over all ranks.
template <typename T>
absl::Status Sum(std::vector<T>& values, MPI_Datatype type, int rank) {
  const auto count = static_cast<int>(values.size());
  const void* source = rank == 0 ? MPI_IN_PLACE : values.data();
  return Check(MPI_Reduce(source, values.data(), count, type, MPI_SUM, 0, MPI_COMM_WORLD), "MPI_Reduce");
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  int is_initialized = 0;
  MPI_Initialized(&is_initialized);
  if (is_initialized != 0) return FailedPrecondition("MPI was started before in this program");
  int given = MPI_THREAD_SINGLE;
  TC_RETURN_IF_ERROR(
      Check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "MPI_Init_thread"));
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  std::unique_ptr<MpiSession> session(new MpiSession(rank, size));
  // Only this thread calls MPI, but the team's threads run beside it.
  if (given < MPI_THREAD_FUNNELED) return Unimplemented("the MPI library does not work beside threads");
  return session;
}

MpiSession::~MpiSession() { MPI_Finalize(); }

absl::Status MpiSession::ReduceProfile(const absl::Status& counted, ActivationProfile& profile) const {
  TC_ASSIGN_OR_RETURN(const bool all_counted, OnAllRanks(counted.ok()));
  if (!counted.ok()) return counted;
  if (!all_counted) return FailedPrecondition("another rank of {} failed", size_);

  TC_ASSIGN_OR_RETURN(const std::string identity, OfRankZero(Identity(profile)));
  TC_ASSIGN_OR_RETURN(const bool all_alike, OnAllRanks(identity == Identity(profile)));
  if (identity != Identity(profile)) {
    return FailedPrecondition("rank {} counted {}; rank 0 counted {}", rank_, Identity(profile), identity);
  }
  if (!all_alike)
    return FailedPrecondition("another rank of {} counted something else than {}", size_, identity);

  TC_ASSIGN_OR_RETURN(const std::string place, OfRankZero(Place(profile.corpus)));
  TC_ASSIGN_OR_RETURN(const bool all_came_equally_far, OnAllRanks(place == Place(profile.corpus)));
  TC_ASSIGN_OR_RETURN(const int64_t profiled_tokens, SumOfTokens(profile.profiled_tokens, size_));
  TC_ASSIGN_OR_RETURN(const int64_t held_out_tokens, SumOfTokens(profile.held_out_tokens, size_));
  for (LayerActivations& layer : profile.layers) {
    for (NeuronCounts* counts : {&layer.profiled, &layer.held_out}) {
      TC_RETURN_IF_ERROR(Sum(counts->active, MPI_UINT64_T, rank_));
      TC_RETURN_IF_ERROR(Sum(counts->magnitude_sum, MPI_DOUBLE, rank_));
    }
  }
  if (rank_ == 0) {
    profile.profiled_tokens = profiled_tokens;
    profile.held_out_tokens = held_out_tokens;
    if (!all_came_equally_far) profile.corpus = {};
  }
  return absl::OkStatus();
}

}  // namespace thermocline
