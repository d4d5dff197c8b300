// GrpcTls: a gRPC server's certificate, key and clients' authority, replaceable while it runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "core/status.h"
#include "server/tls_files.h"

namespace thermocline {

// Safe to use from several threads.
class GrpcTls {
 public:
  // FailedPrecondition that names the file which cannot be read or used.
  static absl::StatusOr<std::unique_ptr<GrpcTls>> Load(TlsFiles files);

  // Reads the files again: handshakes from now on use them. On an error the old ones stay in force.
  absl::Status Reload();

  // For one listening port of a server that this must outlive.
  std::shared_ptr<grpc::ServerCredentials> ServerCredentials();

 private:
  struct Pems {
    std::string certificate, private_key, client_ca;
  };
  GrpcTls(TlsFiles files, Pems pems) : files_(std::move(files)), pems_(std::move(pems)) {}
  static absl::StatusOr<Pems> Read(const TlsFiles& files);
  // gRPC asks before every handshake.
  static grpc_ssl_certificate_config_reload_status Fetch(void* self,
                                                         grpc_ssl_server_certificate_config** config);

  const TlsFiles files_;
  std::mutex mutex_;
  Pems pems_;             // guarded by mutex_
  bool fetched_ = false;  // guarded by mutex_; whether gRPC has the PEMs as they are
};

}  // namespace thermocline
