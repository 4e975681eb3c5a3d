// The JSON of manifest.json -> a Manifest.
#pragma once

#include "json/fields.h"
#include "trtbert/package.h"

namespace trtbert {

Manifest read_manifest(Field const& manifest);

}  // namespace trtbert
