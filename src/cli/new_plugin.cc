#include "cli/new_plugin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

#include "base/text.h"
#include "config/plugins.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t name_bytes_max = 64;

constexpr std::string_view plugin_text = R"js('use strict'
// @NAME@: say in a sentence what it is for.
//
// The functions below are called hooks. Each gets `next` and calls it once: next() passes the mail on to the next plugin,
// next(CODE, what) decides. The codes CONT, OK, DENY, DENYSOFT, DELAY ... are there without `require`.
//
//   sluice plugin test @NAME@       runs the hooks with made-up mail and shows what they answer
//   sluice plugins                shows what runs, and what it costs
//
// A change of this file is loaded within seconds, without a restart.

exports.register = function () {
    // config/@NAME@.ini, read again when it changes. Members that are missing are undefined.
    this.load_settings()

    // The second argument is a method of this plugin; the third a priority: lower ones are called first, 0 is usual.
    this.register_hook('get_mx', 'choose_route')
    this.register_hook('delivered', 'note_delivery')
}

exports.load_settings = function () {
    this.settings = this.config.get('@NAME@.ini', () => this.load_settings())
}

// Before an attempt: where does mail to `domain` go? Without an answer, where DNS says.
exports.choose_route = function (next, hmail, domain) {
    const route = this.settings.routes && this.settings.routes[domain]
    if (!route) return next()
    this.loginfo(`${domain} goes to ${route}`, hmail)
    next(OK, route) // "host", "host:port", "smtp://user:password@host:port", "lmtp://host:port" or a list of these
}

// After a delivery. Nobody waits for an answer, but next() is expected all the same.
exports.note_delivery = function (next, hmail, params) {
    const [host, , response, seconds] = params
    this.logdebug(`delivered to ${host} after ${seconds} s: ${response}`, hmail)
    next()
}

// Before this plugin is replaced by its next version, and when the engine stops.
exports.shutdown = function () {
    this.logdebug('goodbye')
}
)js";

constexpr std::string_view test_text = R"js('use strict'
// Run with: node --test @TEST@

const assert = require('node:assert')
const path = require('node:path')
const { test } = require('node:test')
const { tryPlugin } = require((process.env.SLUICE_PLUGIN_HOST || '@HOST@') + '/testing')

const instance = path.resolve(__dirname, '@UP@')

test('mail to a domain with a route goes there', async (t) => {
    const plugin = await tryPlugin(t, { instance, name: '@NAME@', config: { '@NAME@.ini': '[routes]\nexample.org=mx.example.net:2525\n' } })
    const answer = await plugin.ask('get_mx', { domain: 'example.org' })
    assert.strictEqual(answer.what, 'go')
    assert.deepStrictEqual(answer.mx, [{ host: 'mx.example.net', port: 2525 }])
})

test('other mail goes where DNS says', async (t) => {
    const plugin = await tryPlugin(t, { instance, name: '@NAME@', config: { '@NAME@.ini': '[routes]\n' } })
    const answer = await plugin.ask('get_mx', { domain: 'example.com' })
    assert.strictEqual(answer.mx, undefined)
})
)js";

std::string filled(std::string_view text, std::string_view word, std::string_view with) {
    std::string out(text);
    for (std::size_t at = out.find(word); at != std::string::npos; at = out.find(word, at + with.size())) out.replace(at, word.size(), with);
    return out;
}

Result<> check_name(const std::string& directory, const std::string& name, const std::vector<std::string>& instead) {
    const auto usual = [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '/' || c == '.'; };
    const bool good = !name.empty() && name.size() <= name_bytes_max && is_alnum(name.front()) && is_alnum(name.back()) &&
                      std::all_of(name.begin(), name.end(), usual) && name.find("..") == std::string::npos && name.find("//") == std::string::npos;
    if (!good) {
        return fail(Errc::bad_input, "a name like `my-routes` is expected, of letters, digits, - _ . and /, at most " + std::to_string(name_bytes_max) + " octets; found `" + printable(name) + "`");
    }
    const std::string current = config::current_plugin_name(name);
    const auto native = config::native_plugin_names(directory, instead);
    if (current != name) return fail(Errc::bad_input, "`" + name + "` is read as `" + current + "`, Haraka's new name of another plugin");
    if (std::find(native.begin(), native.end(), name) == native.end()) return {};
    const std::string way_out = config::may_run_instead(name) ? "; with `instead=" + name + "` in plugin_host.ini it would be" : "";
    return fail(Errc::bad_input, "`" + name + "` is native: plugins/" + name + ".js would not be used" + way_out);
}

Result<> write_new(const std::string& path, std::string_view text) {
    std::error_code error;
    fs::create_directories(fs::path(path).parent_path(), error);
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file < 0 && errno == EEXIST) return fail(Errc::bad_input, path + " exists already");
    if (file < 0) return fail(Errc::disk_failed, path + ": " + std::generic_category().message(errno));
    const bool written = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(file);
    if (!written) return fail(Errc::disk_failed, path + ": " + std::generic_category().message(errno));
    return {};
}

std::string text_of_file(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

bool is_listed(const std::string& text, const std::string& name) {
    for (const std::string_view line : split(text, '\n')) {
        if (trim(line) == name || trim(line) == "haraka-plugin-" + name) return true;
    }
    return false;
}

Result<> list(const std::string& path, const std::string& name) {
    const std::string before = text_of_file(path);
    std::ofstream file(path, std::ios::app);
    if (!before.empty() && !before.ends_with('\n')) file << '\n';
    file << name << '\n';
    file.close();
    if (!file) return fail(Errc::disk_failed, path + ": " + std::generic_category().message(errno));
    return {};
}

}  // namespace

Result<NewPlugin> write_new_plugin(const std::string& directory, const std::string& name, const NewPluginTerms& terms) {
    TRY_VOID(check_name(directory, name, terms.instead));
    std::error_code error;
    if (directory.empty() || !fs::is_directory(directory + "/config", error)) {
        return fail(Errc::not_found, (directory.empty() ? "no instance is named" : directory + " is no instance") + std::string("; -c DIR says which one is meant"));
    }
    const std::string root = fs::absolute(directory, error).lexically_normal().string();
    NewPlugin made{root + "/plugins/" + name + ".js", root + "/test/" + name + ".test.js", false};
    // Neither, or both.
    for (const std::string& path : {made.plugin, made.test, root + "/plugins/" + name}) {
        if (fs::exists(fs::symlink_status(path, error))) return fail(Errc::bad_input, path + " exists already");
    }
    std::string up = "..";
    for (const char c : name) up += c == '/' ? "/.." : "";
    TRY_VOID(write_new(made.plugin, filled(plugin_text, "@NAME@", name)));
    std::string test = filled(filled(test_text, "@TEST@", made.test), "@UP@", up);
    test = filled(filled(test, "@HOST@", terms.host.empty() ? "sluice-plugin-host" : terms.host), "@NAME@", name);
    TRY_VOID(write_new(made.test, test));
    made.listed = is_listed(text_of_file(root + "/config/plugins"), name);
    if (terms.enable && !made.listed) {
        TRY_VOID(list(root + "/config/plugins", name));
        made.listed = true;
    }
    return made;
}

}  // namespace sluice::cli
