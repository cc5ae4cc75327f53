#pragma once

#include "plugin/hosts.h"
#include "plugin/native_host.h"

namespace sluice::plugin {

// Adds native plugins to what people see: their hooks stand among the others in run order. `host`: null when there is none.
void add_natives(Hosts::View& view, const NativeHost& natives, const JavaScriptListeners* host);

}  // namespace sluice::plugin
