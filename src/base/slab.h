#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/assert.h"

namespace sluice {

// Rows of large tables refer to each other by place, not by pointer: four bytes instead of eight.
using Index = std::uint32_t;
inline constexpr Index none = ~Index{0};

// A table whose rows keep their place and address until removed; places are used again. Not thread-safe.
template <class T>
class Slab {
public:
    Index add() {
        Index at = none;
        if (free_.empty()) {
            at = static_cast<Index>(live_.size());
            if (at % chunk_size == 0) chunks_.push_back(std::make_unique<T[]>(chunk_size));
            live_.push_back(true);
        } else {
            at = free_.back();
            free_.pop_back();
            live_[at] = true;
        }
        ++size_;
        return at;
    }
    void remove(Index at) {
        ASSERT(contains(at));
        (*this)[at] = T();
        live_[at] = false;
        free_.push_back(at);
        --size_;
    }
    T& operator[](Index at) { return chunks_[at / chunk_size][at % chunk_size]; }
    const T& operator[](Index at) const { return chunks_[at / chunk_size][at % chunk_size]; }
    bool contains(Index at) const { return at < live_.size() && live_[at]; }
    std::size_t size() const { return size_; }
    // One past the last place ever used: for (at = 0; at < end(); ++at) if (contains(at)) ...
    Index end() const { return static_cast<Index>(live_.size()); }

private:
    static constexpr std::size_t chunk_size = 512;
    std::vector<std::unique_ptr<T[]>> chunks_;
    std::vector<bool> live_;
    std::vector<Index> free_;
    std::size_t size_ = 0;
};

// A slab with an index from `T::Key` (anything but Index) to the row's place; `key()` of a row must not change. The index
// holds only places, so it costs about ten bytes a row. Not thread-safe.
template <class T>
class Registry {
public:
    using Key = typename T::Key;

    Registry() : places_(0, Hash{&rows_}, Equal{&rows_}) {}
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;

    Index find(const Key& key) const {
        const auto found = places_.find(key);
        return found == places_.end() ? none : *found;
    }
    // The key is about to be looked for: its place is fetched into the processor's cache meanwhile.
    void prefetch(const Key& key) const { places_.prefetch(key); }
    // So many rows will come: the index grows once.
    void expect(std::size_t rows) { places_.reserve(rows); }
    // `row` must carry a key that is not there yet.
    Index add(T row) {
        const Index at = rows_.add();
        rows_[at] = std::move(row);
        const bool is_new = places_.insert(at).second;
        ASSERT(is_new);
        return at;
    }
    void remove(Index at) {
        places_.erase(at);
        rows_.remove(at);
    }
    T& operator[](Index at) { return rows_[at]; }
    const T& operator[](Index at) const { return rows_[at]; }
    bool contains(Index at) const { return rows_.contains(at); }
    std::size_t size() const { return rows_.size(); }
    Index end() const { return rows_.end(); }

private:
    struct Hash {
        using is_transparent = void;
        const Slab<T>* rows;
        std::size_t operator()(const Key& key) const { return absl::Hash<Key>{}(key); }
        std::size_t operator()(Index at) const { return (*this)((*rows)[at].key()); }
    };
    struct Equal {
        using is_transparent = void;
        const Slab<T>* rows;
        bool operator()(Index a, Index b) const { return a == b || (*rows)[a].key() == (*rows)[b].key(); }
        bool operator()(Index a, const Key& b) const { return (*rows)[a].key() == b; }
        bool operator()(const Key& a, Index b) const { return a == (*rows)[b].key(); }
    };
    Slab<T> rows_;
    absl::flat_hash_set<Index, Hash, Equal> places_;
};

}  // namespace sluice
