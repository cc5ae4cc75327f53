#include "config/page.h"

#include <vector>

#include "config/schema.h"

namespace sluice::config {
namespace {

constexpr std::string_view introduction = R"(# Settings

Every setting of an instance, by file under `DIR/config/`. This page is generated from the table that the program
parses and checks with; `sluice check DIR` says what is wrong with an instance, with file and line.

*live*: in force within a second of the file's change; all files are reloaded together, and a broken one keeps the old
settings. *restart*: in force when the engine starts again. *none*: a setting of Haraka's that is accepted so that an
instance starts unchanged, with the reason why it does nothing.

Syntax is Haraka's: `[section]`, `key=value`, `key[]=item` for lists (commas work too), a trailing `\` continues a line,
`;` and `#` begin comment lines. An inline `; remark` is part of the value. Booleans: `true yes ok enabled on 1` and
`false no off disabled 0`. Durations take `ms`, `s`, `m`, `h`, `d`; octets take `k`, `M`, `G`, `T`.
)";

const char* name_of(Effect effect) {
    switch (effect) {
        case Effect::live:
            return "live";
        case Effect::restart:
            return "restart";
        case Effect::none:
            return "none";
    }
    return "";
}

// The inside of a table cell.
std::string cell(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '|') out += '\\';
        out += c == '\n' ? ' ' : c;
    }
    return out;
}

std::string code(const std::string& text) {
    return text.empty() ? "" : "`" + text + "`";
}

std::string default_of(const Setting& setting) {
    if (setting.format == Format::verbatim) return {};
    return setting.kind.show(default_settings());
}

std::string row(const Setting& setting) {
    std::string doc = setting.doc;
    if (!setting.fallback_section.empty())
        doc += " When not given, the value of [" + setting.fallback_section + "].";
    if (!setting.legacy_file.empty()) doc += " Old one-value file: `" + setting.legacy_file + "`.";
    const std::string key = setting.key.empty() ? "*each line*" : code(setting.key);
    return "| " + key + " | " + cell(setting.kind.words) + " | " + cell(code(default_of(setting))) + " | " +
           name_of(setting.effect) + " | " + cell(doc) + " |\n";
}

// "; " before every line of a text that is cut between words.
std::string comment(const std::string& text, std::string_view sign) {
    constexpr std::size_t width = 96;
    std::string out, line;
    for (const std::string_view word : split(text, ' ')) {
        if (!line.empty() && line.size() + word.size() + 1 > width) {
            out.append(sign).append(line).append("\n");
            line.clear();
        }
        line.append(line.empty() ? "" : " ").append(word);
    }
    return out.append(sign).append(line).append("\n");
}

std::string written_setting(const Setting& setting, const Chosen& chosen) {
    std::string out = comment(setting.doc, "; ");
    if (setting.key.empty()) {
        const auto lines = chosen.find(setting.section);
        return out + comment("Each line: " + setting.kind.words + ".", "; ") +
               (lines == chosen.end() ? "" : lines->second);
    }
    const auto value = chosen.find(setting.section + " " + setting.key);
    if (value != chosen.end()) return out + setting.key + "=" + value->second + "\n";
    return out + ";" + setting.key + "=" + default_of(setting) + "\n";
}

}  // namespace

std::string reference_page() {
    std::string out(introduction);
    std::string file, section;
    for (const Setting& setting : schema()) {
        const bool new_file = setting.file != file;
        if (new_file) out += "\n## " + setting.file + "\n";
        if (setting.format != Format::ini) {
            out += "\n" + setting.doc + "\n\nEffect: " + name_of(setting.effect) +
                   ". Content: " + setting.kind.words +
                   (setting.format == Format::value ? "; the first line counts" : "") + ".\n";
        } else {
            if (new_file || setting.section != section) {
                out += "\n### [" + setting.section +
                       "]\n\n| key | type | default | effect | what |\n|---|---|---|---|---|\n";
            }
            out += row(setting);
        }
        file = setting.file;
        section = setting.section;
    }
    return out;
}

std::string commented_file(const std::string& file, const Chosen& chosen) {
    std::string out, section;
    std::vector<std::string> sections;
    for (const Setting& setting : schema()) {
        if (setting.file != file || setting.effect == Effect::none) continue;
        if (setting.format != Format::ini) {
            out += comment(setting.doc, "# ");
            const auto lines = chosen.find("");
            if (lines != chosen.end()) out += lines->second;
            continue;
        }
        if (setting.section != section) {
            section = setting.section;
            out += (out.empty() ? "[" : "\n[") + section + "]\n";
        }
        out += "\n" + written_setting(setting, chosen);
    }
    return out;
}

}  // namespace sluice::config
