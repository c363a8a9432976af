/* Vectors of LANES doubles for sweep_body.h, exponentials and logarithms: loops without branches, in rows of WIDE. */
#include "sweep.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3") /* loops of a known length become vectors */
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 24")
enum { LINE = 64 }; /* of a cache */
/* Rows of shapes are filled up to whole vectors, also to those of singles, of which there are twice as many in one. */
enum { WIDE = 48, PARTS = WIDE / LANES, SINGLES = 2 * LANES, CELLS = LEVELS * WIDE };

/* The logarithm of what must not count, as of shapes that only fill up a row. */
#define NOTHING (-1e30)
#define FAINT (-80.0) /* what is left of a shape that activity speaks against */

typedef double Lanes __attribute__((vector_size(8 * LANES), aligned(8), may_alias));
typedef int64_t Signs __attribute__((vector_size(8 * LANES), aligned(8), may_alias));
typedef float Halves __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Singles __attribute__((vector_size(8 * LANES), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(8 * LANES), aligned(4), may_alias));

/* Of numbers below 88, in place, to single precision; 0 below -86. The polynomial is that of the Cephes library. */
INLINE void exponentials(float *values, int parts) {
    const float magic = 12582912.0f; /* added to a number it leaves the nearest whole one */
    for (int part = 0; part < parts; part++) {
        Singles *at = (Singles *)values + part, x = *at, whole = x * 1.44269504f + magic;
        Words shift = (Words)whole << 23, keep = (Words)(x >= -86.0f);
        whole -= magic;
        Singles rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
        Singles p = rest * 1.9875691500e-4f + 1.3981999507e-3f;
        p = p * rest + 8.3334519073e-3f;
        p = p * rest + 4.1665795894e-2f;
        p = p * rest + 1.6666665459e-1f;
        p = p * rest + 5.0000001201e-1f;
        p = p * (rest * rest) + rest + 1.0f;
        *at = (Singles)(((Words)p + shift) & keep);
    }
}

/* Of a positive number, to 13 digits. */
INLINE double logarithm(double x) {
    const uint64_t root = 0x3fe6a09e667f3bcd; /* of a half: numbers are brought between that and twice as much */
    uint64_t bits, power, one = 0x4330000000000000;
    double whole, m;
    memcpy(&bits, &x, sizeof bits);
    power = (bits - root + ((uint64_t)1024 << 52)) >> 52;
    bits -= (power - 1024) << 52;
    memcpy(&m, &bits, sizeof m);
    power |= one;
    memcpy(&whole, &power, sizeof whole);
    whole -= 4503599627371520.0; /* 2^52 + 1024 */
    double s = (m - 1.0) / (m + 1.0), t = s * s, p = 1.0 / 15;
    p = p * t + 1.0 / 13;
    p = p * t + 1.0 / 11;
    p = p * t + 1.0 / 9;
    p = p * t + 1.0 / 7;
    p = p * t + 1.0 / 5;
    p = p * t + 1.0 / 3;
    p = p * t + 1.0;
    return whole * 0.693147180559945309 + 2.0 * s * p;
}

INLINE Lanes greater(Lanes a, Lanes b) {
    Signs is = (Signs)(a > b);
    return (Lanes)((is & (Signs)a) | (~is & (Signs)b));
}

INLINE Lanes part_of(const double *row, int part) { return ((const Lanes *)row)[part]; }

INLINE double total_of(Lanes lanes) {
    double all[LANES];
    memcpy(all, &lanes, sizeof all);
    for (int width = LANES / 2; width; width /= 2)
        for (int n = 0; n < width; n++)
            all[n] += all[n + width];
    return all[0];
}

INLINE double greatest(const double *row) {
    Lanes most = part_of(row, 0);
    for (int part = 1; part < PARTS; part++)
        most = greater(part_of(row, part), most);
    double found = most[0];
    for (int n = 1; n < LANES; n++)
        found = most[n] > found ? most[n] : found;
    return found;
}

INLINE double product(const double *a, const double *b) {
    Lanes sum = part_of(a, 0) * part_of(b, 0);
    for (int part = 1; part < PARTS; part++)
        sum += part_of(a, part) * part_of(b, part);
    return total_of(sum);
}

/* Exponentials of a row of numbers, less the greatest of them. */
INLINE void exponentials_of(const double *values, double less, double *out) {
    float single[WIDE];
    for (int j = 0; j < WIDE; j++)
        single[j] = (float)(values[j] - less);
    exponentials(single, WIDE / SINGLES);
    for (int j = 0; j < WIDE; j++)
        out[j] = (double)single[j];
}

/* Exponentials that add up to one; gives the logarithm of their sum before. */
INLINE double chances(const double *joint, double *chance) {
    double top = greatest(joint);
    exponentials_of(joint, top, chance);
    Lanes sum = part_of(chance, 0);
    for (int part = 1; part < PARTS; part++)
        sum += part_of(chance, part);
    double total = total_of(sum), share = 1.0 / total;
    for (int j = 0; j < WIDE; j++)
        chance[j] *= share;
    return top + logarithm(total);
}

/* A row of shapes, filled up to whole vectors. */
INLINE void widen_row(const double *from, double fill, double *out) {
    for (int j = 0; j < SHAPES; j++)
        out[j] = from[j];
    for (int j = SHAPES; j < WIDE; j++)
        out[j] = fill;
}
