#include "config/sources.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <system_error>

#include "config/schema.h"

namespace sluice::config {
namespace {

constexpr std::size_t config_file_bytes_max = 16 << 20;

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    int get() const { return fd_; }

private:
    int fd_;
};

std::string reason(int error) {
    return std::system_category().message(error);
}

Values verbatim_values(std::string_view text) {
    Values values;
    for (std::string& line : parse_verbatim(text))
        values.push_back({std::move(line), static_cast<int>(values.size()) + 1});
    return values;
}

Values values_of(Format format, std::string_view text) {
    switch (format) {
        case Format::value:
            return parse_value(text);
        case Format::verbatim:
            return verbatim_values(text);
        case Format::list:
        case Format::ini:
            break;
    }
    return parse_list(text);
}

}  // namespace

std::string shown_name(const std::string& file) {
    return "config/" + file;
}

Result<std::optional<std::string>> read_text(const std::string& path, std::size_t bytes_max) {
    // Without O_NONBLOCK a FIFO of that name would hang the reader.
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::optional<std::string>();
    if (file.get() < 0) return fail(Errc::disk_failed, "cannot be read: " + reason(errno));
    struct stat status{};
    if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return fail(Errc::disk_failed, "is not a plain file");
    TRY(std::string text, read_to_end(file.get(), bytes_max));
    return std::optional<std::string>(std::move(text));
}

Result<std::string> read_to_end(int descriptor, std::size_t bytes_max) {
    std::string text;
    std::array<char, 65'536> block{};
    for (;;) {
        const ssize_t got = ::read(descriptor, block.data(), block.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(Errc::disk_failed, "cannot be read: " + reason(errno));
        if (got == 0) return text;
        text.append(block.data(), static_cast<std::size_t>(got));
        if (text.size() > bytes_max)
            return fail(Errc::too_large, "is larger than " + std::to_string(bytes_max) + " octets");
    }
}

Result<std::string> read_named(const std::string& path, std::size_t bytes_max) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (file.get() < 0) return fail(errno == ENOENT ? Errc::not_found : Errc::disk_failed, "cannot be read: " + reason(errno));
    return read_to_end(file.get(), bytes_max);
}

Sources Sources::read(const std::string& config_folder, Problems& problems) {
    Sources sources;
    std::set<std::string> seen;
    const auto read_one = [&](const std::string& name, Format format) {
        if (name.empty() || !seen.insert(name).second) return;
        const auto text = read_text(config_folder + "/" + name, config_file_bytes_max);
        if (!text) {
            problems.error(shown_name(name), 0, text.error().detail);
        } else if (*text && format == Format::ini) {
            sources.inis_[name] = parse_ini(**text);
        } else if (*text) {
            sources.values_[name] = values_of(format, **text);
        }
    };
    for (const Setting& setting : schema()) {
        read_one(setting.file, setting.format);
        read_one(setting.legacy_file, Format::value);
    }
    return sources;
}

Values Sources::given(const std::string& file, const std::string& section, const std::string& key) const {
    Values values;
    const auto found = inis_.find(file);
    if (found == inis_.end()) return values;
    bool array_so_far = false;
    for (const IniEntry& entry : found->second.entries) {
        if (entry.section != section || (!key.empty() && entry.key != key)) continue;
        const bool adds = key.empty() || (entry.is_array && array_so_far);
        if (!adds) values.clear();
        array_so_far = entry.is_array;
        values.push_back({entry.value, entry.line, entry.key});
    }
    return values;
}

Values Sources::given(const Setting& setting) const {
    if (setting.format != Format::ini) return lines(setting.file);
    Values values = given(setting.file, setting.section, setting.key);
    if (values.empty() && !setting.fallback_section.empty()) {
        values = given(setting.file, setting.fallback_section, setting.key);
    }
    return values;
}

int Sources::line_of(const std::string& file, const std::string& section, const std::string& key) const {
    const Values values = given(file, section, key);
    return values.empty() ? 0 : values.back().line;
}

Values Sources::lines(const std::string& file) const {
    const auto found = values_.find(file);
    return found == values_.end() ? Values{} : found->second;
}

}  // namespace sluice::config
