/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "tests/unit.h"

#include "client/proxy_env.h"

static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "no_proxy",  "NO_PROXY",
                                    "http_proxy",  "HTTP_PROXY",  "all_proxy", "ALL_PROXY"};

static void clear(void)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
}

static void which(void **state)
{
    (void)state;
    static const struct {
        const char *set[4][2];
        const char *exempt; /* the caller's */
        const char *host, *list;
        enum err want;
    } rows[] = {
        /* clang-format off */
        { {{NULL, NULL}}, NULL, "", NULL, OK },
        { {{"HTTPS_PROXY", ""}}, NULL, "", NULL, OK },
        { {{"HTTPS_PROXY", "http://upper:1"}}, NULL, "upper", NULL, OK },
        { {{"https_proxy", "http://lower:1"}, {"HTTPS_PROXY", "http://upper:1"}}, NULL, "lower", NULL, OK },
        { {{"https_proxy", ""}, {"HTTPS_PROXY", "http://upper:1"}}, NULL, "upper", NULL, OK },
        { {{"https_proxy", "lower:1"}, {"NO_PROXY", "a"}}, NULL, "lower", "a", OK },
        { {{"https_proxy", "lower:1"}, {"NO_PROXY", "a"}, {"no_proxy", "b"}}, NULL, "lower", "b", OK },
        { {{"https_proxy", "lower:1"}, {"NO_PROXY", "a"}}, "c", "lower", "c", OK },
        { {{"http_proxy", "http://x:1"}, {"HTTP_PROXY", "http://x:1"}, {"all_proxy", "http://x:1"}, {"ALL_PROXY", "x:1"}}, NULL, "", NULL, OK },
        { {{"HTTPS_PROXY", "socks5://me:hidden@x"}}, NULL, "", NULL, E_CONFIG },
        /* clang-format on */
    };
    AUTO(proxy_done) struct proxy p = {.port = 0};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {0};
        clear();
        for (size_t k = 0; k < 4 && rows[i].set[k][0] != NULL; k++) {
            assert_int_equal(setenv(rows[i].set[k][0], rows[i].set[k][1], 1), 0);
        }
        assert_err(proxy_from_env(&p, rows[i].exempt, &info), rows[i].want);
        assert_string_equal(p.host, rows[i].host);
        assert_span(span_str(p.exempt), span_str(rows[i].list));
        assert_null(strstr(info.why, "hidden"));
        assert_true(rows[i].want == OK || strstr(info.why, "HTTPS_PROXY") != NULL);
    }
    clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(which)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
