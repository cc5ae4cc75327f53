#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "config/settings.h"
#include "event/event_test_support.h"

// What the tests of native plugins share.
namespace sluice::plugin {

using event::LinesLog;

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
