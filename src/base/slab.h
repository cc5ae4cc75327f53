#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>

#include <cstdint>
#include <memory>
#include <utility>
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

// Finds rows of a slab by their keys. It holds only their places, so it costs about ten bytes a row. A large one consists of many tables, each of
// which grows by itself: one table of a million entries would take a tenth of a second for that. Not thread-safe.
template <class T>
class Places {
public:
    using Key = typename T::Key;

    explicit Places(const Slab<T>& rows) : rows_(&rows) { parts_.push_back(empty_part()); }

    Index find(const Key& key) const {
        const std::size_t hash = absl::Hash<Key>{}(key);
        const Part& part = parts_[part_of(hash)];
        const auto found = part.find(key, hash);
        return found == part.end() ? none : *found;
    }
    // The key is about to be looked for: its place is fetched into the processor's cache meanwhile.
    void prefetch(const Key& key) const { parts_[part_of(absl::Hash<Key>{}(key))].prefetch(key); }
    // So many rows will come: their room is made at once.
    void expect(std::size_t rows) {
        if (rows > undivided_max) divide();
        for (Part& part : parts_) part.reserve(rows / parts_.size());
    }
    // The row carries a key that is not there yet; it must not change until erase().
    void insert(Index at) {
        if (size_ == undivided_max) divide();
        const bool is_new = parts_[part_of(hash_of(at))].insert(at).second;
        ASSERT(is_new);
        ++size_;
    }
    void erase(Index at) {
        parts_[part_of(hash_of(at))].erase(at);
        --size_;
    }
    std::size_t size() const { return size_; }

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
    using Part = absl::flat_hash_set<Index, Hash, Equal>;
    static constexpr unsigned part_bits = 8;
    static constexpr std::size_t undivided_max = 28'672;  // just before a table would grow

    Part empty_part() const { return Part(0, Hash{rows_}, Equal{rows_}); }
    std::size_t hash_of(Index at) const { return Hash{rows_}(at); }
    // By the high bits: inside a table the low ones count.
    std::size_t part_of(std::size_t hash) const { return hash >> (64 - part_bits) & (parts_.size() - 1); }
    void divide() {
        if (parts_.size() > 1) return;
        const Part all = std::move(parts_.front());
        parts_.clear();
        for (std::size_t i = 0; i < std::size_t{1} << part_bits; ++i) parts_.push_back(empty_part());
        for (const Index at : all) parts_[part_of(hash_of(at))].insert(at);
    }

    const Slab<T>* rows_;
    std::vector<Part> parts_;
    std::size_t size_ = 0;
};

// A slab with an index from `T::Key` (anything but Index) to the row's place; `key()` of a row must not change. Not thread-safe.
template <class T>
class Registry {
public:
    using Key = typename T::Key;

    Registry() : places_(rows_) {}
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;

    Index find(const Key& key) const { return places_.find(key); }
    void prefetch(const Key& key) const { places_.prefetch(key); }
    void expect(std::size_t rows) { places_.expect(rows); }
    // `row` must carry a key that is not there yet.
    Index add(T row) {
        const Index at = rows_.add();
        rows_[at] = std::move(row);
        places_.insert(at);
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
    Slab<T> rows_;
    Places<T> places_;
};

}  // namespace sluice
