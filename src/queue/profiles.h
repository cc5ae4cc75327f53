#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "mail/message.h"
#include "policy/field.h"
#include "queue/names.h"
#include "queue/slab.h"

namespace sluice::queue {

// A note or header field that a policy may ask for, and what it says.
struct NamedMark {
    NameId field = Names::empty;
    NameId value = Names::empty;
    friend bool operator==(const NamedMark&, const NamedMark&) = default;
    template <class H>
    friend H AbslHashValue(H h, const NamedMark& mark) {
        return H::combine(std::move(h), mark.field, mark.value);
    }
};

// What items have in common: kept once, however many are queued.
struct Profile {
    struct Key {
        NameId tenant = Names::empty, job = Names::empty, transport = Names::empty, sender = Names::empty;
        std::vector<NamedMark> marks;  // none of them empty; in the order in which they were given
        friend bool operator==(const Key&, const Key&) = default;
        template <class H>
        friend H AbslHashValue(H h, const Key& key) {
            return H::combine(std::move(h), key.tenant, key.job, key.transport, key.sender, key.marks);
        }
    };
    Key name;
    std::uint32_t holders = 0;          // items, lanes, and profiles that are this one to policies
    Index lane = none;                  // what of it is told apart; often itself
    Index pool = 0;                     // of its transport
    std::uint32_t settled = 0;          // by which fields `lane` and `others` are; see Profiles::settle()
    std::vector<policy::Value> others;  // values of notes and headers, by number of field from the first such field on
    const Key& key() const { return name; }
};

// All profiles. Core-owned.
//
// Lanes are made of what policies ask for, not of all that is known: mail in which every message is a job of its own still shares
// lanes while no policy counts by job. Tenant and transport are always told apart, for fairness and for the addresses to call from.
class Profiles {
public:
    // The texts that make a profile, in the form in which policies compare them. Borrows.
    struct Texts {
        std::string_view tenant, job, transport, sender;
        const std::vector<mail::Mark>& marks;
    };

    explicit Profiles(Names& names) : names_(names) {}
    ~Profiles();
    Profiles(const Profiles&) = delete;
    Profiles& operator=(const Profiles&) = delete;

    // Which fields are told apart; `fields` numbers them. True when something is told apart now that was not before.
    bool configure(policy::FieldSet told_apart, const policy::FieldTable& fields) {
        ++fields_known_;
        return set_fields(told_apart, fields);
    }
    // Transports have other pools now.
    template <class PoolOf>
    void find_pools(PoolOf pool_of) {
        for (Index at = 0; at < rows_.end(); ++at) {
            if (rows_.contains(at)) rows_[at].pool = pool_of(rows_[at].name.transport);
        }
    }

    // Finds or makes it, held once. A new one has pool `pool_of(transport)`.
    template <class PoolOf>
    Index intern(const Texts& texts, PoolOf pool_of) {
        Profile::Key key = name(texts);
        Index at = rows_.find(key);
        if (at != none) {
            drop_names(key);
        } else {
            at = add(std::move(key));
            rows_[at].pool = pool_of(rows_[at].name.transport);
            rows_[rows_[at].lane].pool = rows_[at].pool;
        }
        ++rows_[at].holders;
        return at;
    }
    void hold(Index at) const { ++rows_[at].holders; }
    void drop(Index at) const;

    // What of it is told apart: the profile that lanes of such items have.
    Index lane_of(Index at) const {
        settle(at);
        return rows_[at].lane;
    }
    // What policies may ask for that a profile knows.
    void fill(policy::FieldValues& values, Index at) const;
    // An item of this profile may stand in a lane of that one.
    bool may_share(Index item, Index lane) const {
        return rows_[item].name.tenant == rows_[lane].name.tenant && rows_[item].name.transport == rows_[lane].name.transport;
    }

    const Profile& operator[](Index at) const { return rows_[at]; }
    std::size_t size() const { return rows_.size(); }
    Index end() const { return rows_.end(); }
    // `holders`: by profile, how many items and lanes refer to it.
    void audit(std::vector<std::uint32_t> holders) const;

private:
    Profile::Key name(const Texts& texts);
    NameId intern(std::string_view text) { return text.empty() ? names_.hold(Names::empty) : names_.intern(text); }
    void drop_names(const Profile::Key& key) const;
    Index add(Profile::Key key) const;
    Profile::Key reduced(const Profile::Key& key) const;
    bool set_fields(policy::FieldSet told_apart, const policy::FieldTable& fields);
    // Every message may have a profile of its own, so what other fields mean for a profile is found out when somebody asks.
    void settle(Index at) const {
        if (rows_[at].settled != fields_known_) settle_anew(at);
    }
    void settle_anew(Index at) const;
    void number_marks(Profile& profile) const;

    Names& names_;
    mutable Registry<Profile> rows_;
    std::uint32_t fields_known_ = 1;  // so often fields were configured
    policy::FieldSet told_apart_;
    std::vector<NameId> others_;          // names of notes and headers, by number of field
    std::vector<NameId> marks_told_apart_;
};

}  // namespace sluice::queue
