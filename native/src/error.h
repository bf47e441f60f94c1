// The one error of the native code. `kind` is a key of exitCodes in packages/tensor/src/errors.ts; the addon turns it into
// a NimforgeError.
#pragma once
#include <exception>
#include <string>
#include <utility>

namespace nimforge {

struct Error : std::exception {
  std::string kind, code, message, expected, found, fix, node;

  Error(std::string kind, std::string code, std::string message)
      : kind(std::move(kind)), code(std::move(code)), message(std::move(message)) {}

  const char* what() const noexcept override { return message.c_str(); }

  Error& want(std::string text) { return expected = std::move(text), *this; }
  Error& have(std::string text) { return found = std::move(text), *this; }
  Error& advise(std::string text) { return fix = std::move(text), *this; }
  Error& at(std::string text) { return node = std::move(text), *this; }
};

inline Error malformed(std::string code, std::string message) {
  return Error("malformed", std::move(code), std::move(message));
}
inline Error usage(std::string code, std::string message) { return Error("usage", std::move(code), std::move(message)); }
inline Error incompatible(std::string code, std::string message) {
  return Error("incompatible", std::move(code), std::move(message));
}
inline Error limit(std::string code, std::string message) { return Error("limit", std::move(code), std::move(message)); }

}  // namespace nimforge
