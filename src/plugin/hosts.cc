#include "plugin/hosts.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <latch>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "plugin/fingerprint.h"
#include "plugin/json_members.h"

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds turn = 50ms;
constexpr int turns_per_look = 20;
constexpr std::size_t response_bytes_max = 32u << 20;  // half a frame
constexpr int requests_max = 4'000;  // at once; the module has a lower bound of its own
constexpr milliseconds retire_limit_usual = 5min;  // for plugins that may take for ever, and for sessions that go on
constexpr std::size_t leaving_max = 3;       // then the next reload waits
constexpr const char* waiting_sentence = "plugins are loaded again later: those before them still have clients or have not answered";

Reloaded stopping() { return {false, {}, "the engine stops", {}}; }
Reloaded nothing_listed() { return {false, {}, "config/plugins lists no JavaScript plugin", {}}; }

std::string refusal_of(std::string_view sentence) { return boost::json::serialize(boost::json::object{{"error", sentence}}); }

}  // namespace

// How a host that shall take over does; its own shard tells.
struct Hosts::Trial {
    async::Guarded<std::optional<Result<>>> outcome;
};

Hosts::Hosts(
    config::SettingsPtr settings, event::Log& log, async::Workers& disk_pool, NodeHost::LoadMessage load, Prepare prepare,
    std::function<void()> on_hooks)
    : log_(log), disk_pool_(disk_pool), load_(std::move(load)), prepare_(std::move(prepare)), on_hooks_(std::move(on_hooks)),
      log_tap_([this](std::string line) {
          const HostPtr host = hears_log_.with([](const HostPtr& now) { return now; });
          if (host) host->mention(std::move(line));
      }),
      shard_("sluice-reload"),
      tasks_(shard_.executor()), closing_tasks_(shard_.executor()), retire_limit_(retire_limit_usual) {
    service_.with([&](Service& service) {
        service.settings = std::move(settings);
        begin_service(service);
    });
}

Hosts::~Hosts() { end(); }

// A first host, where plugins are listed.
void Hosts::begin_service(Service& service) {
    if (service.settings->javascript_plugins.empty()) return;
    service.host = make_host(service.settings);
    hear_log(service.host);
    any_ = true;
    hooks_ = service.host->hooks();
}

Hosts::HostPtr Hosts::make_host(const config::SettingsPtr& settings, std::function<void(Result<>)> on_trial) {
    NodeHost::Partners partners{
        chronicle_, [this](NodeHost& host) { handle_hooks(host); },
        [this](NodeHost& host, std::uint64_t life, const boost::json::object& request) { handle_request(host, life, request); },
        std::move(on_trial)};
    auto host = std::make_shared<NodeHost>(*settings, log_, disk_pool_, load_, std::move(partners));
    prepare_(*host, settings);
    return host;
}

void Hosts::start() {
    started_ = true;
    service_.with([](Service& service) {
        if (service.host) service.host->start();
    });
    if (any_) begin_care();
    shard_.start();
}

void Hosts::configure(config::SettingsPtr settings) {
    enum class Change { none, first, other };
    const Change change = service_.with([&](Service& service) {
        const bool same = service.settings->javascript_plugins == settings->javascript_plugins;
        service.settings = std::move(settings);
        if (service.host) service.host->configure(service.settings);
        if (same || service.closing) return Change::none;
        if (service.host) return Change::other;
        begin_service(service);
        if (service.host && started_) service.host->start();
        return Change::first;
    });
    if (change == Change::first) {
        begin_care();
        on_hooks_();
    }
    if (change == Change::other) reload("config/plugins has changed");
}

void Hosts::begin_closing(NodeHost::Clock::time_point deadline) {
    service_.with([deadline](Service& service) {
        service.closing = deadline;
        if (service.host) service.host->begin_closing(deadline);
    });
}

void Hosts::end() {
    if (!std::exchange(started_, false)) return;
    serve({});
    stop_reloading();
    ending_ = true;
    std::latch ended(1);
    shard_.post([this, &ended] { closing_tasks_.spawn(finish(ended)); });
    ended.wait();
    shard_.stop();
    hear_log(nullptr);
    const HostPtr host = service_.with([](Service& service) { return std::exchange(service.host, nullptr); });
    if (host) host->end();
}

// A reload that is under way comes to its end first.
Task<> Hosts::finish(std::latch& ended) {
    while (tasks_.size() > 0) co_await async::sleep_for(5ms);
    co_await tasks_.close();
    ended.count_down();
}

// ---- questions -------------------------------------------------------------------------------------------------

// Under the lock: a host whose place is taken gets no question after that.
void Hosts::ask(Question& question) {
    const bool asked = service_.with([&](Service& service) {
        if (service.host) service.host->ask(question);
        return service.host != nullptr;
    });
    if (asked) return;
    question.answer = fail(Errc::unreachable, "no plugin is listed");
    question.back->push(&question);
}

void Hosts::tell(std::string text) {
    service_.with([&](Service& service) {
        if (service.host) service.host->tell(std::move(text));
    });
}

void Hosts::report(std::string text) {
    service_.with([&](Service& service) {
        if (service.host) service.host->report(std::move(text));
    });
}

void Hosts::hear_log(const HostPtr& host) {
    hears_log_.with([&](HostPtr& now) { now = host; });
}

void Hosts::forget(ItemId item) {
    if (!any_) return;
    service_.with([&](Service& service) {
        if (service.host) service.host->forget(item);
    });
}

Hosts::HostPtr Hosts::lease() const {
    return service_.with([](const Service& service) { return service.host; });
}

JavaScriptListenersPtr Hosts::listeners() const {
    const HostPtr host = any_ ? lease() : nullptr;
    return host ? host->listeners() : nullptr;
}

void Hosts::publish(unsigned hooks) {
    // A host that has not told yet wants everything; it would not take lines.
    log_tap_.open(hooks != ~0u && (hooks & NodeHost::log_bit) != 0);
    if (hooks_.exchange(hooks) != hooks) on_hooks_();
}

void Hosts::handle_hooks(const NodeHost& host) {
    const bool in_service = service_.with([&](Service& service) { return service.host.get() == &host; });
    if (in_service) publish(host.hooks());
}

Hosts::View Hosts::view() const {
    View view;
    const HostPtr host = lease();
    view.any = host != nullptr;
    if (host) view.host = host->view();
    view.totals = chronicle_.state();
    return view;
}

// ---- what plugins ask for ---------------------------------------------------------------------------------------

void Hosts::serve(ServeCalls serve) {
    serve_.with([&](ServeCalls& current) { current = std::move(serve); });
}

void Hosts::handle_request(NodeHost& host, std::uint64_t life, const boost::json::object& request) {
    const std::uint64_t id = number_of(request, "id");
    const auto respond = [weak = host.weak_from_this(), life, id](int status, const std::string& body) {
        if (const HostPtr asker = weak.lock()) asker->respond(life, response_text(id, status, body));
    };
    Result<ApiCall> call = call_of(request);
    if (!call) return respond(400, refusal_of(call.error().detail));
    const ServeCalls serve = serve_.with([](const ServeCalls& current) { return current; });
    if (!serve) return respond(503, refusal_of("the engine starts or stops"));
    if (*requests_ >= requests_max) return respond(503, refusal_of("too many requests at once"));
    ++*requests_;
    serve(std::move(*call), [respond, count = requests_](int status, const std::string& body) {
        --*count;
        if (body.size() > response_bytes_max) return respond(413, refusal_of("the answer is too large: ask for less at once"));
        respond(status, body);
    });
}

// ---- other plugins -----------------------------------------------------------------------------------------------

void Hosts::reload(std::string why, std::function<void(Reloaded)> done) {
    shard_.post([this, why = std::move(why), done = std::move(done)]() mutable {
        if (reloads_ && any_) return wishes_.push_back({std::move(why), std::move(done)});
        if (done) done(reloads_ ? nothing_listed() : stopping());
    });
}

// Without plugins nothing of ours wakes the processor.
void Hosts::begin_care() {
    shard_.post([this] {
        if (!std::exchange(caring_, true) && reloads_) tasks_.spawn(care());
    });
}

Task<> Hosts::care() {
    const auto folder = [this] { return service_.with([](const Service& service) { return service.settings->directory; }) + "/plugins"; };
    files_tried_ = files_seen_ = fingerprint_of(folder());
    for (int turns = 1; reloads_; ++turns) {
        co_await async::sleep_for(turn);
        if (turns % turns_per_look == 0 && any_) look_at_files();
        if (wishes_.empty()) continue;
        if (leaving_ >= leaving_max) {
            if (!std::exchange(told_waiting_, true)) log_.notice("plugins", waiting_sentence, {{"leaving", leaving_}});
            continue;
        }
        told_waiting_ = false;
        // Those that come meanwhile are for what the files say then.
        const std::vector<Wish> wishes = std::exchange(wishes_, {});
        files_tried_ = files_seen_ = fingerprint_of(folder());
        const Reloaded reloaded = co_await try_again(wishes.front().why);
        for (const Wish& wish : wishes) {
            if (wish.done) wish.done(reloaded);
        }
    }
    for (const Wish& wish : std::exchange(wishes_, {})) {
        if (wish.done) wish.done(stopping());
    }
}

// Files that are still being written are left alone until the next look.
void Hosts::look_at_files() {
    const std::string directory = service_.with([](const Service& service) { return service.settings->directory; });
    const std::uint64_t now = fingerprint_of(directory + "/plugins");
    if (now != files_tried_ && now == files_seen_) wishes_.push_back({"a file in plugins/ has changed", {}});
    files_seen_ = now;
}

Task<Reloaded> Hosts::try_again(std::string why) {
    const Service service = service_.with([](const Service& now) { return now; });
    if (service.closing || !reloads_) co_return stopping();
    if (!service.host) co_return nothing_listed();
    log_.info("plugins", "plugins are loaded again", {{"because", why}});
    const auto trial = std::make_shared<Trial>();
    const HostPtr next = make_host(service.settings, [trial](const Result<>& loaded) {
        trial->outcome.with([&](std::optional<Result<>>& outcome) { outcome = loaded; });
    });
    next->start();
    std::optional<Result<>> outcome;
    while (!outcome && reloads_) {
        co_await async::sleep_for(turn);
        outcome = trial->outcome.with([](const std::optional<Result<>>& now) { return now; });
    }
    if (!outcome) outcome = Result<>(fail(Errc::cancelled, "the engine stops"));
    Reloaded reloaded = report_of(*outcome, *next, why);
    chronicle_.reloaded(reloaded.done);
    if (reloaded.done) {
        replace(next);
    } else {
        next->end();
    }
    co_return reloaded;
}

Reloaded Hosts::report_of(const Result<>& outcome, const NodeHost& tried, const std::string& why) {
    Reloaded reloaded;
    const Roster roster = tried.view().roster;
    reloaded.done = outcome.has_value();
    reloaded.problems = roster.left_out;
    for (const LoadedPlugin& plugin : roster.plugins) reloaded.plugins.push_back(plugin.name);
    if (reloaded.done) {
        log_.notice("plugins", "plugins were loaded again", {{"plugins", reloaded.plugins.size()}, {"because", why}});
        return reloaded;
    }
    reloaded.plugins.clear();
    reloaded.reason = outcome.error().detail;
    const auto broken = std::find_if(roster.left_out.begin(), roster.left_out.end(), [](const LeftOut& plugin) { return plugin.broken; });
    constexpr const char* sentence = "plugins were not loaded again: those in service stay";
    if (outcome.error().code == Errc::cancelled) return reloaded;
    if (broken == roster.left_out.end()) {
        log_.error("plugins", sentence, {{"reason", reloaded.reason}});
    } else {
        reloaded.reason = broken->name + ": " + broken->reason;
        log_.error("plugins", sentence, {{"plugin", broken->name}, {"reason", broken->reason}, {"at", broken->place()}});
    }
    return reloaded;
}

void Hosts::replace(HostPtr next) {
    const auto [old, closing] = service_.with([&](Service& service) {
        if (service.closing) return std::pair(next, true);
        next->configure(service.settings);  // others may have come while its plugins loaded
        return std::pair(std::exchange(service.host, next), false);
    });
    if (closing) return next->end();
    hear_log(next);
    publish(next->hooks());
    ++leaving_;
    tasks_.spawn(see_off(old));
}

// Until nobody needs it any more.
Task<> Hosts::see_off(HostPtr old) {
    const auto idle = std::make_shared<std::atomic<bool>>(false);
    const auto retired = [this, idle](NodeHost::Questions unheard) {
        for (Question* question : unheard) ask(*question);
        *idle = true;
    };
    old->retire(retired);
    const auto limit = NodeHost::Clock::now() + retire_limit_;
    bool closes = false;
    // Nobody takes another lease of it, so that the last one is seen.
    while ((!*idle || old.use_count() > 1) && !ending_ && NodeHost::Clock::now() < limit) {
        co_await async::sleep_for(turn);
        const auto deadline = service_.with([](const Service& service) { return service.closing; });
        if (deadline && !std::exchange(closes, true)) old->begin_closing(*deadline);
    }
    // While the engine goes on, mail about which these did not answer must be asked about again.
    old->end(closes || ending_ ? Errc::cancelled : Errc::link_closed);
    --leaving_;
}

}  // namespace sluice::plugin
