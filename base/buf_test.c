/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/arena.h"
#include "base/rd.h"
#include "tests/unit.h"

/* --- buf ------------------------------------------------------------------------------------- */

static void test_buf_appends(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(1000);
    buf_add(&b, SPAN_LIT("a\0b"));
    buf_add(&b, SPAN_NONE);
    buf_add_str(&b, "c");
    buf_add_str(&b, NULL);
    buf_add_u8(&b, 0xfe);
    buf_add_be16(&b, 0x0102);
    buf_add_be32(&b, 0x03040506);
    buf_add_be64(&b, 0x0708090a0b0c0d0eu);
    buf_addf(&b, "%d-%s", 7, "x");
    assert_ok(buf_err(&b));
    assert_span(buf_span(&b), SPAN_LIT("a\0bc\xfe\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c\x0d\x0e"
                                       "7-x"));
}

static void test_buf_limit(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(5);
    buf_add_str(&b, "12345");
    assert_ok(buf_err(&b));
    buf_add(&b, SPAN_NONE);
    assert_ok(buf_err(&b));
    buf_add_u8(&b, '6'); /* one past */
    assert_err(buf_err(&b), E_TOO_LARGE);
    assert_span(buf_span(&b), SPAN_LIT("12345"));
    buf_drop(&b, 5);
    buf_add_u8(&b, 'x'); /* sticky, also when there would be room again */
    assert_int_equal(b.n, 0);
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_take_str(&b));
    buf_reset(&b);
    buf_addf(&b, "%s", "abcde");
    assert_ok(buf_err(&b));
    assert_span(buf_span(&b), SPAN_LIT("abcde"));
    buf_reset(&b);
    buf_addf(&b, "%s", "abcdef");
    assert_err(buf_err(&b), E_TOO_LARGE);
    assert_int_equal(b.n, 0);
    buf_release(&b);
    assert_null(buf_reserve(&b, 6));
    assert_err(buf_err(&b), E_TOO_LARGE);
    buf_release(&b);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_err(buf_err(&b), E_TOO_LARGE);
}

static void test_buf_nothing_allowed(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(0);
    assert_non_null(buf_reserve(&b, 0));
    buf_add_u8(&b, 1);
    assert_err(buf_err(&b), E_TOO_LARGE);
}

static void test_buf_reserve_drop(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(100000);
    uint8_t *p = buf_reserve(&b, 70000);
    assert_non_null(p);
    memset(p, 'x', 70000);
    assert_int_equal(b.n, 0);
    b.n += 70000;
    buf_drop(&b, 69999);
    assert_span(buf_span(&b), SPAN_LIT("x"));
    buf_add_str(&b, "yz");
    buf_drop(&b, 1);
    assert_span(buf_span(&b), SPAN_LIT("yz"));
    buf_drop(&b, 100);
    assert_int_equal(b.n, 0);
    buf_release(&b);
    buf_drop(&b, 1);
    assert_null(b.p);
    assert_int_equal(b.max, 100000);
}

static void test_buf_take(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(64);
    for (int i = 0; i < 64; i++) { /* exactly full: the final zero needs a place of its own */
        buf_add_u8(&b, 'a');
    }
    AUTO(mem_free_p) char *s = buf_take_str(&b);
    assert_int_equal(strlen(s), 64);
    assert_null(b.p);
    AUTO(mem_free_p) char *empty = buf_take_str(&b);
    assert_string_equal(empty, "");
}

/* --- rd -------------------------------------------------------------------------------------- */

static enum err read_message(struct span s, struct span *ret)
{
    struct rd r = rd_init(s);
    uint8_t a = rd_u8(&r);
    uint16_t b = rd_be16(&r);
    uint32_t c = rd_be32(&r);
    uint64_t d = rd_be64(&r);
    struct span e = rd_lv16(&r);
    struct span f = rd_bytes(&r, 2);
    rd_require(&r, a == 1 && b == 0x0203 && c == 0x04050607 && d == 0x08090a0b0c0d0e0fu &&
                       span_is(f, "zz"));
    enum err err = rd_end(&r);
    if (err == OK) {
        *ret = e;
    }
    return err;
}

static void test_rd_cut_at_every_length(void **state)
{
    (void)state;
    struct span good = SPAN_LIT("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\0\3abczz");
    for (size_t n = 0; n < good.n; n++) {
        struct span got = SPAN_LIT("untouched");
        assert_err(read_message(span_sub(good, 0, n), &got), E_TRUNCATED);
        assert_span(got, SPAN_LIT("untouched"));
    }
    struct span got;
    assert_ok(read_message(good, &got));
    assert_span(got, SPAN_LIT("abc"));
}

static void test_rd_refusals(void **state)
{
    (void)state;
    struct span got = SPAN_NONE;
    assert_err(read_message(SPAN_LIT("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\0\3abczz!"), &got),
               E_MALFORMED);
    assert_err(read_message(SPAN_LIT("\2\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\0\3abczz"), &got),
               E_MALFORMED);
}

static void test_rd_is_sticky(void **state)
{
    (void)state;
    struct rd r = rd_init(SPAN_LIT("\0\5abc"));
    struct span s = rd_lv16(&r);
    assert_null(s.p);
    assert_int_equal(r.n, 5); /* nothing moved, not even the length */
    assert_err(rd_err(&r), E_TRUNCATED);
    assert_int_equal(rd_u8(&r), 0);
    assert_int_equal(rd_be16(&r), 0);
    assert_int_equal(rd_rest(&r).n, 0);
    rd_require(&r, false);
    assert_err(rd_end(&r), E_TRUNCATED);
    assert_int_equal(r.n, 5);

    r = rd_init(SPAN_LIT("ab"));
    assert_int_equal(rd_bytes(&r, SIZE_MAX).n, 0);
    assert_err(rd_err(&r), E_TRUNCATED);

    r = rd_init(SPAN_NONE);
    assert_int_equal(rd_rest(&r).n, 0);
    assert_ok(rd_end(&r));

    r = rd_init(SPAN_LIT("ab"));
    assert_span(rd_rest(&r), SPAN_LIT("ab"));
    assert_ok(rd_end(&r));
}

/* --- arena ----------------------------------------------------------------------------------- */

static void test_arena(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = ARENA_INIT(1u << 20);
    uint8_t *kept[600];
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        size_t n = i % 97 + 1;
        kept[i] = arena_alloc(&a, n);
        assert_non_null(kept[i]);
        assert_int_equal((uintptr_t)kept[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(kept[i][k], 0);
        }
        memset(kept[i], (int)(i & 0xff), n);
    }
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) { /* nobody wrote over another */
        for (size_t k = 0; k < i % 97 + 1; k++) {
            assert_int_equal(kept[i][k], i & 0xff);
        }
    }
    assert_non_null(arena_alloc(&a, 100000)); /* larger than a block */
    assert_non_null(arena_alloc(&a, 0));
    assert_string_equal(arena_str(&a, SPAN_LIT("abc")), "abc");
    assert_string_equal(arena_str(&a, SPAN_NONE), "");
    assert_string_equal(arena_printf(&a, "%d %s", 5, "x"), "5 x");
    assert_span(arena_span(&a, SPAN_LIT("q\0r")), SPAN_LIT("q\0r"));
    assert_non_null(arena_span(&a, SPAN_NONE).p);
    uint64_t *v = arena_new(&a, uint64_t);
    assert_true(*v == 0);
}

static void test_arena_cap(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = ARENA_INIT(128);
    assert_null(arena_alloc(&a, 129));
    assert_non_null(arena_alloc(&a, 128));
    assert_null(arena_alloc(&a, 1));
    assert_null(arena_span(&a, SPAN_LIT("x")).p);
    assert_null(arena_str(&a, SPAN_LIT("x")));
    assert_null(arena_printf(&a, "x"));
    arena_done(&a); /* begins anew */
    assert_non_null(arena_alloc(&a, 128));
    assert_null(arena_alloc(&a, SIZE_MAX));
    arena_done(&a);
    assert_null(arena_alloc(&a, SIZE_MAX - 3));
    struct arena wide = ARENA_INIT(SIZE_MAX);
    assert_null(arena_alloc(&wide, SIZE_MAX - 3));
    arena_done(&wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_appends),
        cmocka_unit_test(test_buf_limit),
        cmocka_unit_test(test_buf_nothing_allowed),
        cmocka_unit_test(test_buf_reserve_drop),
        cmocka_unit_test(test_buf_take),
        cmocka_unit_test(test_rd_cut_at_every_length),
        cmocka_unit_test(test_rd_refusals),
        cmocka_unit_test(test_rd_is_sticky),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
