#pragma once

// What fuzz targets of whole conversations talk to.

#include <algorithm>
#include <string>
#include <string_view>

#include "net/stream.h"

namespace sluice {

// A peer that has said everything beforehand: each read gets the next piece of `script`, of so many octets or, for 0, the
// next line. Nothing arrives before somebody listens for it, and what is said to it stands in `heard`.
class ScriptedStream final : public net::Stream {
public:
    ScriptedStream(std::string_view script, std::size_t piece, std::string& heard) : script_(script), piece_(piece), heard_(heard) {}

    Task<Result<std::size_t>> read_some(std::span<char> into) override {
        if (script_.empty()) co_return fail(Errc::link_closed, "end of the script");
        std::size_t size = piece_ != 0 ? piece_ : std::min(script_.find('\n'), script_.size() - 1) + 1;
        size = std::min({size, script_.size(), into.size()});
        std::copy_n(script_.begin(), size, into.begin());
        script_.remove_prefix(size);
        co_return size;
    }
    Task<Result<>> write_all(std::span<const std::string_view> slices) override {
        for (const std::string_view slice : slices) heard_ += slice;
        co_return Result<>();
    }
    void set_deadline(TimePoint) override {}
    Task<Result<>> start_tls_client(std::shared_ptr<net::TlsContext>, std::string) override {
        secured_.verified = true;
        secure_ = true;
        co_return Result<>();
    }
    Task<Result<>> start_tls_server(std::shared_ptr<net::TlsContext>) override { co_return fail(Errc::unsupported, "a client"); }
    const net::TlsSession* tls() const override { return secure_ ? &secured_ : nullptr; }
    bool idle_link_is_dead() override { return false; }
    Task<> close() override { co_return; }
    void abort() override {}
    net::Endpoint local() const override { return {net::IpAddress::v4(0x7F000001), 49152}; }
    net::Endpoint remote() const override { return {net::IpAddress::v4(0x7F000001), 25}; }

private:
    std::string_view script_;
    std::size_t piece_;
    std::string& heard_;
    net::TlsSession secured_;
    bool secure_ = false;
};

}  // namespace sluice
