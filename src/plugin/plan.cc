#include "plugin/plan.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <optional>
#include <utility>

#include "plugin/native_host.h"

namespace sluice::plugin {
namespace {

using Border = std::optional<ListenerPlace>;

std::vector<std::int32_t> numbers_of(delivery::Hook hook) {
    switch (hook) {
        case delivery::Hook::before_attempt: return {SLUICE_HOOK_SEND_EMAIL, SLUICE_HOOK_GET_MX};
        case delivery::Hook::deferred: return {SLUICE_HOOK_DEFERRED};
        case delivery::Hook::bounce: return {SLUICE_HOOK_BOUNCE};
        case delivery::Hook::delivered: return {SLUICE_HOOK_DELIVERED};
    }
    return {};
}

boost::json::value json_of(const Border& border) {
    if (!border) return nullptr;
    return boost::json::array{border->priority, border->place};
}

bool anybody_between(const JavaScriptListeners& host, const char* hook, const Border& after, const Border& before) {
    if (after && before && *after >= *before) return false;
    if (!host.known) return true;
    const auto found = host.places.find(hook);
    if (found == host.places.end()) return false;
    return std::any_of(found->second.begin(), found->second.end(), [&](const ListenerPlace& place) {
        return (!after || *after < place) && (!before || place < *before);
    });
}

// Gathers parts of the host's that follow each other into one question.
class Steps {
public:
    explicit Steps(const JavaScriptListeners* host) : host_(host) {}

    void add_between(const char* hook, const Border& after, const Border& before) {
        if (host_ == nullptr || !anybody_between(*host_, hook, after, before)) return;
        spans_[hook] = boost::json::array{json_of(after), json_of(before)};
    }
    void add(const NativeListener& listener) {
        flush();
        steps_.push_back({&listener, listener.number, {}});
    }
    std::vector<Step> take() {
        flush();
        return std::move(steps_);
    }

private:
    void flush() {
        if (spans_.empty()) return;
        steps_.push_back({nullptr, 0, boost::json::serialize(std::exchange(spans_, {}))});
    }

    const JavaScriptListeners* const host_;
    boost::json::object spans_;
    std::vector<Step> steps_;
};

}  // namespace

ListenerPlace place_of(const NativeListener& listener) {
    return {static_cast<double>(listener.priority), static_cast<double>(listener.module->listed.after) - 0.5};
}

std::vector<Step> plan_of(std::int32_t number, const NativeHost& natives, const JavaScriptListeners* host) {
    std::vector<Step> steps;
    Border last;
    const auto add_between = [&](const Border& before) {
        if (host == nullptr || !anybody_between(*host, name_of_hook(number), last, before)) return;
        const boost::json::array span{json_of(last), json_of(before)};
        steps.push_back({nullptr, number, boost::json::serialize(span)});
    };
    for (const NativeListener& listener : natives.listeners(number)) {
        const ListenerPlace place = place_of(listener);
        add_between(place);
        steps.push_back({&listener, number, {}});
        last = place;
    }
    add_between(std::nullopt);
    return steps;
}

std::vector<Step> plan(delivery::Hook hook, const NativeHost& natives, const JavaScriptListeners* host) {
    if (!natives.wants(hook)) return host == nullptr ? std::vector<Step>() : std::vector<Step>{Step{}};
    Steps steps(host);
    for (const std::int32_t number : numbers_of(hook)) {
        Border last;
        for (const NativeListener& listener : natives.listeners(number)) {
            const ListenerPlace place = place_of(listener);
            steps.add_between(name_of_hook(number), last, place);
            steps.add(listener);
            last = place;
        }
        steps.add_between(name_of_hook(number), last, std::nullopt);
    }
    return steps.take();
}

}  // namespace sluice::plugin
