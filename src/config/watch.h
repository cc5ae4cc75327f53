#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/changes.h"
#include "config/load.h"

namespace sluice::config {

// What a change of the files came to. Value.
struct Reload {
    SettingsPtr settings;   // in force from now on: the new ones, or the old ones after an error
    bool accepted = false;  // the files are free of errors
    bool applied = false;   // `settings` are new
    Changes changes;        // against what was in force until now; of what needs a restart, against what the files said
    std::vector<std::string>
        needs_restart;              // all settings whose files say other than what the engine started with
    std::vector<Problem> problems;  // of the files as they are
};

// Watches the files of an instance and reloads all of them when one changes: a quarter of a second after the
// last change, at most three quarters after the first, so that a set of files written together counts as one
// change.
//
// Promise: settings are published only when every file is free of errors; a broken file keeps the old ones
// and is
//          reported once, and so is its repair. A change that changes no setting is not published. What needs
//          a restart is reported, and in what is published it has the value that the engine started with.
// Thread:  owned by one thread, which polls fd() for reading and calls on_readable(); that loads (a few
// milliseconds of
//          file reading) and calls the listener.
// Watched: DIR/config, DIR/config/tls, the folders of the certificates, and DIR for a replaced config folder.
class Watch {
public:
    using Listener = std::function<void(const Reload&)>;

    // `current` are the settings in force. Does not look at files by itself before start().
    Watch(SettingsPtr current, std::vector<Problem> problems, Listener listener);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    // Errors: out_of_resources when the kernel gives no more watches; reload() works all the same.
    Result<void> start();
    // Readable when on_readable() has work. Below 0 before start(), and after it failed; then never changes.
    int fd() const { return poll_; }
    // Never blocks; does nothing when there is nothing to do.
    void on_readable();
    // Reloads now, whatever the files' times say (the control API). What it returns went to the listener before, if it was news.
    Reload reload();

private:
    Result<void> open();
    void close_all();
    bool watch_folders();
    bool drain_events();
    bool matters(int watch, std::uint32_t mask, const std::string& name) const;
    void schedule();
    Reload publish(Loaded loaded);

    SettingsPtr current_;
    SettingsPtr written_;  // the last files without an error
    std::vector<Problem> problems_;
    Listener listener_;
    int poll_ = -1, events_ = -1, timer_ = -1;
    std::map<int, std::string> folders_;  // by inotify's watch number
    std::chrono::steady_clock::time_point first_change_{};
    bool pending_ = false;
};

}  // namespace sluice::config
