#include "plugin/log_tap.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"

namespace sluice::plugin {
namespace {

thread_local bool from_plugins = false;

}  // namespace

LogTap::FromPlugins::FromPlugins() { from_plugins = true; }
LogTap::FromPlugins::~FromPlugins() { from_plugins = false; }

void LogTap::hear(event::Level level, std::string_view session, std::string_view origin, std::string_view line) {
    if (from_plugins) return;
    const boost::json::object message{
        {"t", "line"}, {"level", static_cast<int>(level)}, {"session", with_valid_utf8(std::string(session))},
        {"origin", with_valid_utf8(std::string(origin))}, {"text", with_valid_utf8(std::string(line))}};
    tell_(boost::json::serialize(message));
}

}  // namespace sluice::plugin
