// Plans without a solver: what it starts from and is compared with, and the fill of what it leaves over.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "profiler/placement_model.h"

namespace thermocline {

// The most frequent neurons of the whole model until the memory is full. Layers whose share may not be split
// so go to the accelerator whole where that fits, else back to what may.
LayerChoices GlobalTopK(const PlacementModel& model);

// The first layers, whole, as many as fit.
LayerChoices FirstLayers(const PlacementModel& model);

// Gives free memory to the most frequent neurons whose move makes no layer dearer.
void FillMemory(const PlacementModel& model, LayerChoices& choices);

}  // namespace thermocline
