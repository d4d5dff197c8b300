// Fuzzes chat templates: their source, which comes from model files.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_evaluator.h"
#include "model/jinja_parser.h"
#include "tests/fuzz/fuzz_target.h"

namespace thermocline {

std::vector<std::string> FuzzSeeds() {
  return {
      "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|a|>\\n' }}{% endif %}"
      "{{ '<|' + m.role + '|>\\n' + m['content'] | trim + eos }}{% endfor %}{% if generate %}{{- 'x' -}}{% "
      "endif %}",
      "{%- set ns = namespace(n=0, s='') %}\n{%- for k, v in messages[0].items() if k != 'role' -%}\n"
      "{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ v[1:-1] %}{% else %}none{% endfor %}\n{{ ns.s ~ ns.n }}",
      "{% macro m(a, b='x') %}{{ a | upper }}{{ b.split('x')[-1].strip() }}{% endmacro %}{{ m(1.5) }}{{ "
      "m('q', b=[1]) }}",
      "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ') | tojson "
      "}}"
      "{{ {'a': [1, none, true]} | tojson(indent=2) }}{{ [1, 2, 3][::-1] }}{{ 'abc'.replace('b', 'äö') | "
      "length }}",
      "{% set x %}in {{ 7 // 2 % 3 - -1 * 2 / 4 }}{% endset %}{{ x if x is defined and x not in 'y' else "
      "raise_exception('no') }}"
      "{% for i in range(9) %}{% if i is odd %}{% continue %}{% elif i > 6 %}{% break %}{% endif %}{{ i }}{% "
      "endfor %}",
      "  {# note #}\n  {%+ if true +%}\n a {%- endif %}\n{{ ' x ' | trim | default('d', true) | replace('x', "
      "\"y\\u00e9\") }}"};
}

}  // namespace thermocline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  const std::string name = "chat template";
  const auto body = ParseJinja({reinterpret_cast<const char*>(data), size});
  if (!body.ok()) {
    FuzzExpectOneLine(body.status(), name);
    return 0;
  }
  const auto text = [](std::string_view bytes) { return JinjaText(bytes, JinjaOrigin::kMessage); };
  JinjaList messages;
  for (const char* role : {"system", "user", "assistant"}) {
    messages.push_back(
        *JinjaValue::Dict({{text("role"), text(role)}, {text("content"), text(" \"Hé\" x\n")}}));
  }
  const JinjaVariables variables = {
      {"messages", *JinjaValue::List(std::move(messages))}, {"generate", true}, {"eos", text("</s>")}};
  const JinjaLimits limits{.work = 20000, .output_bytes = 4096};
  const auto rendered = RenderJinja(*body, variables, limits);
  if (!rendered.ok()) {
    FuzzExpectOneLine(rendered.status(), name);
    return 0;
  }
  FuzzExpect(rendered->size() <= 4096, "the output is longer than its limit");
  return 0;
}
