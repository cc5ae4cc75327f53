#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>
#include <string_view>

// What the tests of plugin hosts share.
namespace sluice::plugin {

// A plugin host in Python: `prelude` may define things, `cases` look at `what`, which is what `message` asks for.
inline std::string host_script(std::string_view prelude, std::string_view cases) {
    std::string script = R"(#!/usr/bin/env python3
import json, os, socket, struct, sys, threading, time
link = socket.socket(fileno=3)
def send(*messages):
    out = json.dumps(messages).encode()
    link.sendall(struct.pack("<IB", len(out) + 1, 1) + out)
def receive(size):
    data = bytearray()
    while len(data) < size:
        part = link.recv(min(size - len(data), 1 << 20))
        if not part: os._exit(0)
        data += part
    return data
)";
    script.append(prelude);
    script += R"(
while True:
    length, kind = struct.unpack("<IB", receive(5))
    if length > 64 << 20: os._exit(4)  # as the real one
    for message in json.loads(receive(length - 1)):
        what = message.get("do", message["t"])
        if what == "shutdown": os._exit(0)
        if what == "ping": send({"t": "pong"})
)";
    return script.append(cases);
}

// Until it is so; not for ever.
template <class Condition>
void wait_for(Condition condition) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::promise<void> nobody;
    const auto future = nobody.get_future();
    while (!condition() && std::chrono::steady_clock::now() < limit) future.wait_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(condition());
}

}  // namespace sluice::plugin
