#pragma once

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include "async/task.h"
#include "config/settings.h"
#include "dns/context.h"

struct ub_ctx;
struct ub_result;

namespace sluice::dns {

// What the library's result means. Malformed data is dns_temporary; the time to live is as the library gives
// it.
Finding read_result(const Question& question, const ub_result& result);

// One context of libunbound: its thread does the asking, its descriptor tells the shard of answers. Shard-owned.
class UnboundContext final : public Context {
public:
    // Does not fail: a context that could not be set up answers every question with the reason.
    UnboundContext(async::Executor executor, const config::DnsSettings& settings);
    UnboundContext(const UnboundContext&) = delete;
    UnboundContext& operator=(const UnboundContext&) = delete;
    // Questions under way are dropped; their askers are not told.
    ~UnboundContext() override;

    Result<int> ask(Asker& asker) override;
    void cancel(int number) override;
    Task<> serve() override;
    void stop() override;

private:
    Result<> set_up(const config::DnsSettings& settings);
    Result<> set_options(const config::DnsSettings& settings);
    Result<> set_servers(const config::DnsSettings& settings);
    Result<> forget_local_zones();

    ub_ctx* context_;
    Result<> usable_;
    boost::asio::posix::basic_stream_descriptor<async::Executor> answers_;
    bool stopping_ = false;
};

}  // namespace sluice::dns
