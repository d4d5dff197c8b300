// Puts a report's body on a page, with style sheet and script inside.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report_page.h"

#include <fmt/format.h>

#include "profiler/report_assets.h"
#include "profiler/report_text.h"

namespace thermocline {

std::string RenderPage(std::string_view title, std::string_view style, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta "
      "charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{} · "
      "Thermocline</title>\n<style>\n{}{}</style>\n</head>\n"
      "<body>\n<main>\n{}</main>\n<script>\n{}</script>\n</body>\n</html>\n",
      EscapeHtml(title), kReportStyle, style, body, kReportScript);
}

std::string Section(std::string_view id, std::string_view heading, std::string_view introduction,
                    std::string_view body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-heading\">\n<h2 id=\"{0}-heading\">{1}</h2>\n<p "
      "class=\"introduction\">{2}</p>\n{3}</section>\n",
      id, EscapeHtml(heading), EscapeHtml(introduction), body);
}

std::string Cell(std::string_view text, std::string_view css_class) {
  return fmt::format("<td class=\"{}\">{}</td>", css_class, EscapeHtml(text));
}

std::string Fact(std::string_view name, std::string_view value, std::string_view css_class) {
  return fmt::format("<div class=\"fact\"><dt>{}</dt><dd class=\"{}\">{}</dd></div>\n", EscapeHtml(name),
                     css_class, EscapeHtml(value.empty() ? "–" : value));
}

std::string Tile(std::string_view id, std::string_view name, std::string_view figure, std::string_view note) {
  return fmt::format(
      "<div class=\"tile\" id=\"{}\"><dt>{}</dt><dd class=\"figure\">{}</dd><dd "
      "class=\"note\">{}</dd></div>\n",
      id, EscapeHtml(name), EscapeHtml(figure), EscapeHtml(note));
}

}  // namespace thermocline
