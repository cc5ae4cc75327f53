#include "daemon/survey_desk.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "daemon/core_question.h"
#include "daemon/filtering.h"
#include "delivery/retry.h"

namespace sluice::daemon {
namespace {

// Groups of one survey; further ones are counted together.
constexpr std::size_t groups_max = 200'000;
// Where messages have to be read, items are chosen in portions of this size.
constexpr std::size_t read_at_once = 1'000;
// Buckets cost more to show than items.
constexpr std::uint32_t buckets_at_once = 5'000;
constexpr std::size_t items_explained_max = 20;
constexpr std::size_t tries_max = 50;

}  // namespace

// The groups of all stretches, put together.
class SurveyDesk::Sum {
public:
    void add(std::vector<queue::Group> groups) {
        for (queue::Group& group : groups) {
            total_.add(group);
            std::string name;
            for (const std::string& text : group.key) name.append(text).push_back('\0');
            const auto found = places_.find(name);
            if (found != places_.end()) {
                groups_[found->second].add(group);
            } else if (groups_.size() < groups_max) {
                places_.emplace(std::move(name), groups_.size());
                groups_.push_back(std::move(group));
            } else {
                left_out_ = true;
            }
        }
    }

    control::SurveyReport report(std::size_t limit) && {
        const auto first = [](const queue::Group& a, const queue::Group& b) { return std::tie(b.items, a.key) < std::tie(a.items, b.key); };
        std::sort(groups_.begin(), groups_.end(), first);
        control::SurveyReport report;
        report.groups_more = groups_.size() > limit ? groups_.size() - limit : 0;
        if (left_out_) ++report.groups_more;
        groups_.resize(std::min(groups_.size(), limit));
        report.groups = std::move(groups_);
        report.total = std::move(total_);
        return report;
    }

private:
    queue::Group total_;
    std::vector<queue::Group> groups_;
    absl::flat_hash_map<std::string, std::size_t> places_;
    bool left_out_ = false;
};

control::WallTime SurveyDesk::time() const {
    const Instant now = machinery_.clock().now();
    return {now, machinery_.clock().wall_ms(now)};
}

// ---- counts ----------------------------------------------------------------------------------------------------

Task<Result<control::SurveyReport>> SurveyDesk::survey(control::SurveyRequest request) {
    queue::Survey survey;
    std::function<policy::FieldTable(const queue::Core&)> question = [](const queue::Core& core) { return core.fields(); };
    const policy::FieldTable fields = co_await ask<policy::FieldTable>(machinery_.core(), executor_, std::move(question));
    CO_TRY(survey.filter, queue::Filter::parse(request.where, fields));
    for (const std::string& name : request.by) {
        CO_TRY(const queue::Column column, queue::Column::parse(name, fields));
        if (column.is_in_message() || column.kind == queue::Column::Kind::id) {
            co_return fail(Errc::bad_input, "by: groups cannot be made by " + name);
        }
        survey.by.push_back(column);
    }
    if (survey.by.size() > queue::survey_columns_max) {
        co_return fail(Errc::bad_input, "by: at most " + std::to_string(queue::survey_columns_max) + " fields are expected");
    }
    Sum sum;
    CO_TRY_VOID(co_await add_up(survey, sum));
    control::SurveyReport report = std::move(sum).report(request.limit);
    report.time = time();
    co_return report;
}

Task<Result<>> SurveyDesk::add_up(const queue::Survey& survey, Sum& sum) {
    using Answer = std::pair<std::vector<queue::Group>, std::optional<Place>>;
    std::optional<Place> next = Place{0};
    while (next) {
        if (closing_) co_return fail(Errc::cancelled, "the engine stops");
        if (survey.filter.needs_message()) {
            next = co_await add_read(survey, *next, sum);
            continue;
        }
        std::function<Answer(const queue::Core&)> question = [&survey, from = *next](const queue::Core& core) {
            Answer answer;
            answer.second = core.survey(survey, from, places_at_once, answer.first);
            return answer;
        };
        Answer answer = co_await ask<Answer>(machinery_.core(), executor_, std::move(question));
        next = answer.second;
        sum.add(std::move(answer.first));
    }
    co_return Result<>();
}

// A stretch for which messages have to be read: the core chooses, the disk decides, the core counts.
Task<std::optional<SurveyDesk::Place>> SurveyDesk::add_read(const queue::Survey& survey, Place from, Sum& sum) {
    using Answer = std::pair<std::vector<ItemId>, std::optional<Place>>;
    std::function<Answer(const queue::Core&)> question = [&survey, from](const queue::Core& core) {
        Answer answer;
        answer.second = core.select(survey.filter, from, places_at_once, [&](const queue::ItemView& item) {
            answer.first.push_back(item.id);
            return answer.first.size() < read_at_once;
        });
        return answer;
    };
    Answer answer = co_await ask<Answer>(machinery_.core(), executor_, std::move(question));
    const std::vector<ItemId> passing = co_await passing_messages(machinery_, executor_, std::move(answer.first), survey.filter);
    using Groups = std::vector<queue::Group>;
    std::function<Groups(const queue::Core&)> count = [&survey, &passing](const queue::Core& core) {
        Groups groups;
        core.survey(survey, passing, groups);
        return groups;
    };
    Groups groups = co_await ask<Groups>(machinery_.core(), executor_, std::move(count));
    sum.add(std::move(groups));
    co_return answer.second;
}

Task<Result<std::uint64_t>> SurveyDesk::count(control::BulkRequest request) {
    std::string where = request.where;
    // What the command would leave as it is does not count.
    if (request.command == control::Command::flush) where += " state=scheduled";
    if (request.command == control::Command::hold) where += " state!=held";
    if (request.command == control::Command::release) where += " state=held";
    queue::Survey survey;
    CO_TRY(survey.filter, co_await read_filter(machinery_, executor_, std::move(where)));
    Sum sum;
    CO_TRY_VOID(co_await add_up(survey, sum));
    co_return std::move(sum).report(0).total.items;
}

// ---- buckets ---------------------------------------------------------------------------------------------------

Task<Result<control::BucketPage>> SurveyDesk::buckets(control::BucketFilter filter) {
    using Answer = std::pair<std::vector<queue::BucketView>, std::optional<Place>>;
    CO_TRY(const Place from, place_of(filter.cursor, machinery_));
    control::BucketPage page;
    std::optional<Place> next = from;
    while (next && page.buckets.size() < filter.limit && !closing_) {
        const std::size_t room = filter.limit - page.buckets.size();
        std::function<Answer(const queue::Core&)> question = [&filter, from = *next, room](const queue::Core& core) {
            Answer answer;
            answer.second = core.each_bucket_from(from, buckets_at_once, [&](const queue::BucketView& bucket) {
                const bool selected = (filter.policy.empty() || filter.policy == bucket.policy) && (!filter.waiting || bucket.waiting_lanes > 0) &&
                                      (filter.part.empty() || to_lower(bucket.name()).find(to_lower(filter.part)) != std::string::npos);
                if (selected) answer.first.push_back(bucket);
                return answer.first.size() < room;
            });
            return answer;
        };
        Answer answer = co_await ask<Answer>(machinery_.core(), executor_, std::move(question));
        next = answer.second;
        for (queue::BucketView& bucket : answer.first) page.buckets.push_back(std::move(bucket));
    }
    if (next) page.cursor = cursor_of(*next, machinery_);
    page.time = time();
    co_return page;
}

// ---- explanations ----------------------------------------------------------------------------------------------

Task<Result<std::vector<control::Explained>>> SurveyDesk::explain(std::string what, config::SettingsPtr settings) {
    std::vector<control::Explained> found;
    const auto item = ItemId::parse(what);
    const auto message = MessageId::parse(what);
    if (what.find('[') != std::string::npos && !what.starts_with('[')) {
        CO_TRY(control::Explained bucket, co_await explain_bucket(what));
        found.push_back(std::move(bucket));
    } else if (item) {
        auto one = co_await explain_item(*item, settings);
        if (one) found.push_back(std::move(*one));
    } else {
        const std::uint32_t count = message ? co_await items_of(*message) : 0;
        for (std::uint32_t index = 0; index < count && found.size() < items_explained_max; ++index) {
            const ItemId part{*message, index};
            auto one = co_await explain_item(part, settings);
            if (one) found.push_back(std::move(*one));
        }
        // A domain may look like a message, and the other way round.
        auto domain = co_await explain_domain(to_lower(what));
        if (domain) found.push_back(std::move(*domain));
    }
    if (found.empty()) {
        co_return fail(Errc::not_found, "nothing is queued under the name " + printable(what) +
                                            "; an item, a message, a domain or a bucket as `sluice queue buckets` names it is expected");
    }
    co_return found;
}

Task<std::uint32_t> SurveyDesk::items_of(MessageId message) {
    const auto load = [this, message] { return machinery_.spool().load(message); };
    const Result<mail::MessagePtr> loaded = co_await async::blocking(machinery_.workers(), executor_, load);
    co_return loaded ? static_cast<std::uint32_t>((*loaded)->items.size()) : 0;
}

Task<std::optional<control::Explained>> SurveyDesk::explain_item(ItemId id, config::SettingsPtr settings) {
    using Answer = std::optional<control::Explained>;
    std::function<Answer(const queue::Core&)> question = [this, id, &settings](const queue::Core& core) -> Answer {
        const auto view = core.find(id);
        if (!view) return std::nullopt;
        control::Explained explained;
        explained.item = detail_of(*view, machinery_.clock());
        explained.place = core.explain(id);
        const policy::DeliverySettings* const how = explained.place->how.get();
        explained.expires = view->arrival + delivery::lifetime_of(settings->outbound, how);
        if (view->lifetime.count() > 0) explained.expires = std::min(explained.expires, view->arrival + view->lifetime);
        const Instant first = explained.place->earliest.value_or(machinery_.clock().now());
        explained.tries = delivery::tries_ahead(settings->outbound, how, view->attempts, first, explained.expires, tries_max);
        return explained;
    };
    Answer answer = co_await ask<Answer>(machinery_.core(), executor_, std::move(question));
    if (answer) answer->time = time();
    co_return answer;
}

Task<std::optional<control::Explained>> SurveyDesk::explain_domain(std::string domain) {
    using Answer = std::optional<queue::Explanation>;
    std::function<Answer(const queue::Core&)> question = [&domain](const queue::Core& core) { return core.explain(domain); };
    Answer answer = co_await ask<Answer>(machinery_.core(), executor_, std::move(question));
    if (!answer) co_return std::nullopt;
    control::Explained explained;
    explained.place = std::move(*answer);
    explained.time = time();
    co_return explained;
}

Task<Result<control::Explained>> SurveyDesk::explain_bucket(std::string name) {
    using Answer = Result<queue::BucketView>;
    std::function<Answer(const queue::Core&)> question = [&name](const queue::Core& core) { return core.bucket(name); };
    Answer answer = co_await ask<Answer>(machinery_.core(), executor_, std::move(question));
    if (!answer) co_return fail(answer.error());
    control::Explained explained;
    explained.bucket = std::move(*answer);
    explained.time = time();
    co_return explained;
}

}  // namespace sluice::daemon
