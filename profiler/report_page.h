// The frame of a report: one HTML page without external assets, and the pieces that its sections share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace thermocline {

// The whole page, with the reports' style sheet and script inside. `title` is text; `style` is further CSS,
// `body` HTML that is well-formed as XML too.
std::string RenderPage(std::string_view title, std::string_view style, std::string_view body);

// A section with its heading and an introduction; `heading` and `introduction` are text, `body` is HTML.
std::string Section(std::string_view id, std::string_view heading, std::string_view introduction,
                    std::string_view body);
// "<td class=...>text</td>", escaped. A class of "number" aligns figures to the right.
std::string Cell(std::string_view text, std::string_view css_class = "number");
// A name and its value for the list under the title; an en dash where the value is empty.
std::string Fact(std::string_view name, std::string_view value, std::string_view css_class = "");
// One headline figure; `id` names it for scripts that read the page.
std::string Tile(std::string_view id, std::string_view name, std::string_view figure, std::string_view note);

}  // namespace thermocline
