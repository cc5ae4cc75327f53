#pragma once

#include <string>
#include <string_view>

#include "queue/slab.h"

namespace sluice::queue {

// A text that was interned: equal texts have equal numbers while anybody holds them.
enum class NameId : std::uint32_t {};
inline std::uint32_t number_of(NameId name) { return static_cast<std::uint32_t>(name); }

// Domains, tenants, addresses, host names: each kept once and counted. Core-owned.
class Names {
public:
    // The empty text; always there.
    static constexpr NameId empty{0};

    Names() { intern({}); }

    // Every intern() and hold() asks for one drop().
    NameId intern(std::string_view text) {
        Index at = names_.find(text);
        if (at == none) at = names_.add(Name{std::string(text), 0});
        ++names_[at].holders;
        return NameId{at};
    }
    NameId hold(NameId name) {
        ++names_[number_of(name)].holders;
        return name;
    }
    void drop(NameId name) {
        Name& row = names_[number_of(name)];
        ASSERT(row.holders > 0);
        if (--row.holders == 0) names_.remove(number_of(name));
    }
    // Valid while somebody holds the name.
    std::string_view text(NameId name) const { return names_[number_of(name)].text; }
    // Without holding it.
    bool find(std::string_view text, NameId& name) const {
        const Index at = names_.find(text);
        name = NameId{at};
        return at != none;
    }
    std::size_t size() const { return names_.size(); }

private:
    struct Name {
        using Key = std::string_view;
        std::string text;
        std::uint32_t holders = 0;
        Key key() const { return text; }
    };
    Registry<Name> names_;
};

}  // namespace sluice::queue
