#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "async/guarded.h"
#include "config/settings.h"
#include "event/log.h"

// What the tests of native plugins share.
namespace sluice::plugin {

class LinesLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return true; }
    void write(
        event::Level, std::string_view, std::string_view origin, std::string_view sentence,
        std::initializer_list<event::Field> fields) override {
        std::string line = std::string(origin) + ": " + std::string(sentence);
        for (const event::Field& field : fields) line += " " + std::string(field.key) + "=" + field.value;
        lines_.with([&](auto& lines) { lines += line + "\n"; });
    }
    std::string text() const {
        return lines_.with([](const auto& lines) { return lines; });
    }

private:
    async::Guarded<std::string> lines_;
};

// An instance with native plugins, in a folder that goes away with it.
class NativeInstance {
public:
    NativeInstance() {
        std::string name = (std::filesystem::temp_directory_path() / "sluice-native-XXXXXX").string();
        settings.directory = ::mkdtemp(name.data());
        std::filesystem::create_directories(settings.directory + "/config");
    }
    NativeInstance(const NativeInstance&) = delete;
    NativeInstance& operator=(const NativeInstance&) = delete;
    ~NativeInstance() {
        std::error_code ignored;
        std::filesystem::remove_all(settings.directory, ignored);
    }

    void write(const std::string& name, const std::string& text) const {
        std::ofstream(settings.directory + "/" + name, std::ios::binary) << text;
    }
    std::string read(const std::string& name) const {
        std::ifstream in(settings.directory + "/" + name, std::ios::binary);
        std::ostringstream out;
        out << in.rdbuf();
        return out.str();
    }
    // Lists a plugin that stands on this line, after so many JavaScript plugins.
    void list(const std::string& name, const std::string& file, std::size_t after = 0) {
        settings.native_plugins.push_back({name, name, file, static_cast<int>(settings.native_plugins.size()) + 1, after});
    }

    config::Settings settings;
};

}  // namespace sluice::plugin
