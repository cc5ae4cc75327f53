#include "config/load.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "config/lines.h"
#include "config/test_instance.h"

namespace sluice::config {
namespace {

using test::slurp;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::IsEmpty;
namespace fs = std::filesystem;
using std::chrono::seconds;

const fs::path fixtures = fs::path(SLUICE_SOURCE_DIR) / "test/config";

// Stand-ins in fixture files, so that no key lies in the repository: "@certificate NAME" and "@key NAME" are the halves
// of one pair; a NAME that begins with "expired" or "future" is valid at another time.
class Certificates {
public:
    std::string expand(const std::string& content) {
        const std::string text(trim(content));
        if (!text.starts_with("@")) return content;
        std::string out;
        for (const std::string_view line : split(text, '\n')) {
            const std::size_t blank = line.find(' ');
            const test::CertificatePair& pair = named(std::string(line.substr(blank + 1)));
            out += line.starts_with("@key") ? pair.key : pair.certificate;
        }
        return out;
    }

private:
    const test::CertificatePair& named(const std::string& name) {
        const auto found = pairs_.find(name);
        if (found != pairs_.end()) return found->second;
        const long day = 86'400;
        const long from = name.starts_with("future") ? day : name.starts_with("expired") ? -2 * day : -day;
        const long until = name.starts_with("expired") ? -day : 2 * day;
        return pairs_[name] = test::make_certificate(from, until);
    }
    std::map<std::string, test::CertificatePair> pairs_;
};

void copy_fixture(const fs::path& from, const TemporaryFolder& to) {
    Certificates certificates;
    for (const auto& entry : fs::recursive_directory_iterator(from)) {
        const std::string name = fs::relative(entry.path(), from).string();
        if (entry.is_directory()) fs::create_directories(to.path() / name);
        if (entry.is_regular_file()) to.write(name, certificates.expand(slurp(entry.path())));
    }
    // A fixture that is about something else need not say who it is.
    if (!fs::exists(to.path() / "config/me")) to.write("config/me", "mx.example.com\n");
}

std::string report(const Loaded& loaded, const std::string& directory) {
    std::string out;
    for (const Problem& problem : loaded.problems) {
        std::string line = problem.text();
        for (std::size_t at; (at = line.find(directory)) != std::string::npos;) line.replace(at, directory.size(), "DIR");
        out += line + "\n";
    }
    return out;
}

std::vector<fs::path> cases_in(const std::string& kind) {
    std::vector<fs::path> cases;
    for (const auto& entry : fs::directory_iterator(fixtures / kind)) cases.push_back(entry.path());
    std::sort(cases.begin(), cases.end());
    return cases;
}

std::string case_name(const testing::TestParamInfo<fs::path>& info) { return info.param.filename().string(); }

// A folder is an instance with a mistake; its expected.txt is what `sluice check` says about it.
class BadInstance : public testing::TestWithParam<fs::path> {};

TEST_P(BadInstance, IsReportedWithFileLineAndExpectation) {
    const TemporaryFolder instance;
    copy_fixture(GetParam(), instance);
    const Loaded loaded = load(instance.text());
    const std::string found = report(loaded, instance.text());

    // New fixtures are written by hand and completed by a run with this variable, then read before they are committed.
    if (std::getenv("SLUICE_WRITE_EXPECTED") != nullptr) std::ofstream(GetParam() / "expected.txt") << found;
    EXPECT_EQ(found, slurp(GetParam() / "expected.txt"));
    EXPECT_FALSE(loaded.problems.empty());
    const bool error = std::any_of(loaded.problems.begin(), loaded.problems.end(), [](const Problem& problem) {
        return problem.severity == Severity::error;
    });
    EXPECT_EQ(loaded.settings == nullptr, error);
}
INSTANTIATE_TEST_SUITE_P(Fixtures, BadInstance, testing::ValuesIn(cases_in("bad")), case_name);

// Instances that start; expected.txt holds their warnings.
class GoodInstance : public testing::TestWithParam<fs::path> {};

TEST_P(GoodInstance, LoadsWithTheseWarningsOnly) {
    const TemporaryFolder instance;
    copy_fixture(GetParam(), instance);
    const Loaded loaded = load(instance.text());
    const std::string found = report(loaded, instance.text());
    if (std::getenv("SLUICE_WRITE_EXPECTED") != nullptr) std::ofstream(GetParam() / "expected.txt") << found;
    EXPECT_EQ(found, slurp(GetParam() / "expected.txt"));
    EXPECT_NE(loaded.settings, nullptr);
}
INSTANTIATE_TEST_SUITE_P(Fixtures, GoodInstance, testing::ValuesIn(cases_in("good")), case_name);

}  // namespace
}  // namespace sluice::config
