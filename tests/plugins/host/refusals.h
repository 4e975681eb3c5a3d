// What the plugins have to refuse, and what they have to say then.
#pragma once

#include "life_cycle.h"

namespace host {

void run_refusals(Host const& host, std::vector<Case> const& cases);

}  // namespace host
