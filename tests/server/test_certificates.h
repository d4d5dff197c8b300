// Certificates for tests, made when they are needed, and a TLS client that shows them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace thermocline::testing {

template <auto kFree>
struct OpenSslFree {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, OpenSslFree<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpenSslFree<X509_free>>;

// A key with its certificate, signed by an authority or by itself.
class TestIdentity {
 public:
  explicit TestIdentity(const std::string& name, const TestIdentity* authority = nullptr)
      : key_(EVP_EC_gen("P-256")), certificate_(X509_new()) {
    X509* const x509 = certificate_.get();
    X509_set_version(x509, 2);
    static long serial = 0;
    ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), 24 * 3600);
    X509_set_pubkey(x509, key_.get());
    X509_NAME* const subject = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    const TestIdentity& issuer = authority == nullptr ? *this : *authority;
    X509_set_issuer_name(x509, X509_get_subject_name(issuer.certificate_.get()));
    AddExtension(NID_basic_constraints, authority == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
    AddExtension(NID_subject_alt_name, "IP:127.0.0.1");
    if (X509_sign(x509, issuer.key_.get(), EVP_sha256()) == 0) throw std::runtime_error("cannot sign");
  }

  std::string CertificatePem() const {
    return Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate_.get()); });
  }
  std::string KeyPem() const {
    return Pem([&](BIO* bio) {
      return PEM_write_bio_PrivateKey(bio, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
  }
  EVP_PKEY* key() const { return key_.get(); }
  X509* certificate() const { return certificate_.get(); }

 private:
  void AddExtension(int nid, const char* value) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(certificate_.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  template <typename Write>
  static std::string Pem(const Write& write) {
    const std::unique_ptr<BIO, OpenSslFree<BIO_free>> bio(BIO_new(BIO_s_mem()));
    write(bio.get());
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<size_t>(size)};
  }

  KeyPtr key_;
  CertificatePtr certificate_;
};

// Sends a request over a TLS connection that trusts `authority` alone and reads to the connection's end;
// empty when either side does not accept the other.
inline std::string AskOverTls(int port, const TestIdentity& authority, const TestIdentity* client,
                              const std::string& request) {
  const std::unique_ptr<SSL_CTX, OpenSslFree<SSL_CTX_free>> context(SSL_CTX_new(TLS_client_method()));
  X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority.certificate());
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (client != nullptr) {
    SSL_CTX_use_certificate(context.get(), client->certificate());
    SSL_CTX_use_PrivateKey(context.get(), client->key());
  }
  const std::unique_ptr<BIO, OpenSslFree<BIO_free_all>> bio(BIO_new_ssl_connect(context.get()));
  BIO_set_conn_hostname(bio.get(), ("127.0.0.1:" + std::to_string(port)).c_str());
  SSL* ssl = nullptr;
  BIO_get_ssl(bio.get(), &ssl);
  X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), "127.0.0.1");
  std::string answer;
  if (BIO_do_connect(bio.get()) > 0 &&
      BIO_write(bio.get(), request.data(), static_cast<int>(request.size())) > 0) {
    char bytes[4096];
    for (int count = 0; (count = BIO_read(bio.get(), bytes, sizeof(bytes))) > 0;) {
      answer.append(bytes, static_cast<size_t>(count));
    }
  }
  ERR_clear_error();
  return answer;
}

}  // namespace thermocline::testing
