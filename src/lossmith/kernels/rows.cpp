// Two passes over rows of logits: forward (row statistics) and backward (gradient of the logits).
//
// Every class but two, the target t and the top class m, has a probability of at most 1/2. What a loss does with
// those two is left to the caller, who works on vectors of one value per row; what it does with all the others is a
// sum of f(p_j) over j, f(0) = f'(0) = 0, given by polynomials in p: f(p) = p^2 value(p) and p f'(p) = p^2 slope(p).
// A small p keeps its digits. Nothing of the size of the logits is kept but the gradient itself.
//
// With z_2 the second largest logit and s = sum_{j != m} exp(z_j - z_2), all is computed from the *other* classes:
//   odds = log(p_m / (1 - p_m)) = (z_m - z_2) - log s
// so that nothing cancels. The gradient of g_c c_t + g_odds odds + g_o others in class j is, with
// r_j = exp(z_j - z_2) / s, q = 1 - p_m and B = sum_{j not in {t, m}} p_j f'(p_j):
//   r_j (q (g_c + g_o (f'(p_j) - B)) - g_odds)                j not in {t, m}
//
// Where f is singular at p = 0, as p log p and sqrt(p) are, the polynomials are in p and in c = -log p:
//   f(p) = p^power sum_m c^m value_m(p),  p f'(p) = p^power sum_m c^m slope_m(p)
// and c_j = c_2 + (z_2 - z_j) is a sum of two numbers that are not negative, so that it keeps its digits.
#include <cmath>
#include <cstdint>

typedef float vec __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(32)));
static const int LANES = 8;
#define INLINE static inline __attribute__((always_inline))  // not where the compiler happens to find it worth it

struct Row {  // what the backward pass needs to know of a row
  float second, inverse_sum, top, complement, slope_sum, c_second;  // z_2, 1 / s, p_m, 1 - p_m, B, c_2
};

struct Polynomials {  // coefficients from the constant up, those of c^0 first
  int32_t degree, logs;  // degree -1: no sum over the other classes; logs: the highest m
  float power;
  const float *value, *slope;
};
static const int SINGULAR = -2;  // in place of a degree
static const int UNROLLED = 4, STEP = UNROLLED * LANES;
static const int64_t FEW = 64 * STEP;  // classes to be added in float32 in `UNROLLED` sums: many may be alike

static int kind(const Polynomials* of) { return of->logs > 0 || of->power != 2.0f ? SINGULAR : of->degree; }

INLINE vec spread(float x) { return (vec){x, x, x, x, x, x, x, x}; }

INLINE float total(vec x) {
  double sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return (float)sum;
}

// e^x for x <= 88, relative error below 2e-8 |x| + 2 ulp; 0 below -87.3, NaN for NaN. 2^n 2^f, n + f = x / log 2.
INLINE vec exponential(vec x) {
  const float log2_e = 1.44269504f, magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const vec lowest = spread(-87.33654f);
  ints kept = !(x < lowest);
  vec clamped = kept ? x : lowest;
  vec shifted = clamped * log2_e + magic;
  vec f = clamped * log2_e - (shifted - magic);
  vec e = spread(1.545316294e-4f);  // (2^f - 1) / f on [-1/2, 1/2], interpolated at Chebyshev points
  e = e * f + 1.339086336e-3f;
  e = e * f + 9.618082557e-3f;
  e = e * f + 5.550357114e-2f;
  e = e * f + 2.402265076e-1f;
  e = e * f + 6.931471880e-1f;
  e = e * f + 1.0f;
  e = (vec)((ints)e + ((ints)shifted << 23));
  return kept ? e : spread(0.0f);
}

INLINE float exponential(float x) { return exponential(spread(x))[0]; }

template <int DEGREE>
INLINE vec polynomial(const float* coefficients, vec p) {
  vec value = spread(coefficients[DEGREE]);
#pragma GCC unroll 32
  for (int k = DEGREE - 1; k >= 0; k--) value = value * p + coefficients[k];
  return value;
}

static void largest_two(const float* z, int64_t n, float* first, float* second, int64_t* where) {
  vec a[UNROLLED], b[UNROLLED];
  for (int i = 0; i < UNROLLED; i++) a[i] = b[i] = spread(-INFINITY);
  int64_t j = 0;
  for (; j + UNROLLED * LANES <= n; j += UNROLLED * LANES)
    for (int i = 0; i < UNROLLED; i++) {
      vec x = *(const vec*)(z + j + i * LANES);
      vec smaller = a[i] < x ? a[i] : x;
      b[i] = b[i] < smaller ? smaller : b[i];
      a[i] = a[i] < x ? x : a[i];
    }
  float top = -INFINITY, next = -INFINITY;
  for (int i = 0; i < 2 * UNROLLED * LANES; i++) {
    float x = i < UNROLLED * LANES ? a[i / LANES][i % LANES] : b[i / LANES - UNROLLED][i % LANES];
    if (x > top) next = top, top = x;
    else if (x > next) next = x;
  }
  for (; j < n; j++) {
    if (z[j] > top) next = top, top = z[j];
    else if (z[j] > next) next = z[j];
  }
  int64_t at = 0;
  for (; at + UNROLLED * LANES <= n; at += UNROLLED * LANES) {  // many at a time until the top comes into sight
    ints hit = *(const vec*)(z + at) == top;
    for (int i = 1; i < UNROLLED; i++) hit |= *(const vec*)(z + at + i * LANES) == top;
    long long any __attribute__((vector_size(32))) = (decltype(any))hit;
    if (any[0] | any[1] | any[2] | any[3]) break;
  }
  while (at < n - 1 && z[at] != top) at++;
  *first = top, *second = next, *where = at;
}

// sum of exp(z_j - shift); the terms are kept in `kept` unless it is null.
static double sum_of_exponentials(const float* z, int64_t n, float shift, float* kept) {
  double sum = 0;
  int64_t j = 0;
  while (j + STEP <= n) {
    vec sums[UNROLLED] = {spread(0), spread(0), spread(0), spread(0)};
    for (int64_t end = n - j < FEW ? n : j + FEW; j + STEP <= end; j += STEP)
      for (int i = 0; i < UNROLLED; i++) {
        vec e = exponential(*(const vec*)(z + j + i * LANES) - shift);
        if (kept) *(vec*)(kept + j + i * LANES) = e;
        sums[i] += e;
      }
    sum += total((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
  for (; j + LANES <= n; j += LANES) {
    vec e = exponential(*(const vec*)(z + j) - shift);
    if (kept) *(vec*)(kept + j) = e;
    sum += total(e);
  }
  for (; j < n; j++) {
    float e = exponential(z[j] - shift);
    if (kept) kept[j] = e;
    sum += e;
  }
  return sum;
}

// sum of p^2 value(p) and of p^2 slope(p) for p = scale e_j
template <int DEGREE>
static void sum_of_terms(const float* e, int64_t n, float scale, const float* value, const float* slope, float* sums) {
  double first = 0, second = 0;
  int64_t j = 0;
  while (j + 2 * LANES <= n) {
    vec a[2] = {spread(0), spread(0)}, b[2] = {spread(0), spread(0)};
    for (int64_t end = n - j < FEW ? n : j + FEW; j + 2 * LANES <= end; j += 2 * LANES)
      for (int i = 0; i < 2; i++) {
        vec p = *(const vec*)(e + j + i * LANES) * scale, square = p * p;
        a[i] += square * polynomial<DEGREE>(value, p);
        b[i] += square * polynomial<DEGREE>(slope, p);
      }
    first += total(a[0] + a[1]), second += total(b[0] + b[1]);
  }
  for (; j < n; j++) {
    vec p = spread(e[j] * scale), square = p * p;
    first += (square * polynomial<DEGREE>(value, p))[0];
    second += (square * polynomial<DEGREE>(slope, p))[0];
  }
  sums[0] = (float)first, sums[1] = (float)second;
}

// p^power for p = e^-c
INLINE vec weight(vec p, vec c, float power) {
  if (power == 1.0f) return p;
  if (power == 2.0f) return p * p;
  if (power == 0.0f) return spread(1.0f);
  return exponential(c * -power);
}

// sum_m c^m P_m(p)
INLINE void series(const float* coefficients, const Polynomials* of, const vec* p, const vec* c, vec* made) {
  const int degree = of->degree;
  for (int m = of->logs; m >= 0; m--) {
    const float* row = coefficients + m * (degree + 1);
    vec value[UNROLLED];
    for (int i = 0; i < UNROLLED; i++) value[i] = spread(row[degree]);
    for (int k = degree - 1; k >= 0; k--)
      for (int i = 0; i < UNROLLED; i++) value[i] = value[i] * p[i] + row[k];
    for (int i = 0; i < UNROLLED; i++) made[i] = m == of->logs ? value[i] : made[i] * c[i] + value[i];
  }
}

static const float NOWHERE = 88.0f;  // the c from which on float32 has p = 0, but 0 times infinity would be NaN

// Some classes at a time; the last ones of a row are copied to where there is room behind them.
struct Step {
  vec z[UNROLLED], p[UNROLLED], c[UNROLLED], near[UNROLLED];  // z - z_2, p (left to the caller), c, finite c

  Step(const float* of, Row row) {
    for (int i = 0; i < UNROLLED; i++) {
      z[i] = *(const vec*)(of + i * LANES) - row.second;
      c[i] = row.c_second - z[i];
      near[i] = c[i] < NOWHERE ? c[i] : spread(NOWHERE);
    }
  }
};

// `sum_of_terms` of a singular f; a class with e_j < 0 is left out.
static void sum_of_singular_terms(const float* z, const float* e, int64_t n, Row row, const Polynomials* of,
                                  float* sums) {
  float last_z[STEP], last_e[STEP];
  vec a = spread(0), b = spread(0);
  double first = 0, second = 0;
  for (int64_t j = 0; j < n; j += STEP) {
    bool whole = j + STEP <= n;
    for (int i = 0; !whole && i < STEP; i++) {
      last_z[i] = j + i < n ? z[j + i] : 0.0f;
      last_e[i] = j + i < n ? e[j + i] : -1.0f;
    }
    const float* kept = whole ? e + j : last_e;
    Step at(whole ? z + j : last_z, row);
    for (int i = 0; i < UNROLLED; i++) at.p[i] = *(const vec*)(kept + i * LANES) * (row.inverse_sum * row.complement);
    vec value[UNROLLED], slope[UNROLLED];
    series(of->value, of, at.p, of->power > 0 ? at.near : at.c, value);
    series(of->slope, of, at.p, at.near, slope);
    for (int i = 0; i < UNROLLED; i++) {
      vec w = weight(at.p[i], at.c[i], of->power);
      ints out = *(const vec*)(kept + i * LANES) < 0.0f;
      a += out ? spread(0) : w * value[i];
      b += out ? spread(0) : w * slope[i];
    }
    if ((j + STEP) % (FEW / UNROLLED) == 0 || j + STEP >= n) {
      first += total(a), second += total(b);
      a = b = spread(0);
    }
  }
  sums[0] = (float)first, sums[1] = (float)second;
}

// `write_gradient` of a singular f
static void write_singular_gradient(const float* z, int64_t n, Row row, float factor, float constant,
                                    const Polynomials* of, float* gradient) {
  float last_z[STEP], last_gradient[STEP];
  for (int64_t j = 0; j < n; j += STEP) {
    bool whole = j + STEP <= n;
    for (int i = 0; !whole && i < STEP; i++) last_z[i] = j + i < n ? z[j + i] : 0.0f;
    Step at(whole ? z + j : last_z, row);
    vec r[UNROLLED], slope[UNROLLED];
    for (int i = 0; i < UNROLLED; i++) {
      r[i] = exponential(at.z[i]) * row.inverse_sum;
      at.p[i] = r[i] * row.complement;
    }
    series(of->slope, of, at.p, at.near, slope);
    float* made = whole ? gradient + j : last_gradient;
    for (int i = 0; i < UNROLLED; i++)
      *(vec*)(made + i * LANES) = r[i] * constant + weight(at.p[i], at.c[i], of->power) * slope[i] * factor;
    for (int i = 0; !whole && j + i < n; i++) gradient[j + i] = last_gradient[i];
  }
}

template <int DEGREE>
INLINE vec gradient_of(vec z, Row row, float factor, float constant, const float* slope) {
  vec r = exponential(z - row.second) * row.inverse_sum;
  if (DEGREE < 0) return r * constant;
  vec p = r * row.complement;
  return r * (polynomial<(DEGREE < 0 ? 0 : DEGREE)>(slope, p) * (p * factor) + constant);
}

template <int DEGREE>
static void write_gradient(const float* z, int64_t n, Row row, float factor, float constant, const float* slope,
                           float* gradient) {
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES)
    *(vec*)(gradient + j) = gradient_of<DEGREE>(*(const vec*)(z + j), row, factor, constant, slope);
  for (; j < n; j++) gradient[j] = gradient_of<DEGREE>(spread(z[j]), row, factor, constant, slope)[0];
}

template <int DEGREE>
static int64_t forward(const float* logits, const int64_t* target, int64_t ignored, int64_t rows, int64_t classes,
                       int64_t stride, const Polynomials* of, float* c, double* odds, float* others, int64_t* top,
                       Row* state, float* scratch) {
  for (int64_t i = 0; i < rows; i++) {
    const float* z = logits + i * stride;
    float first, second;
    int64_t m, t = target[i] == ignored ? -1 : target[i];
    if (t >= classes || (t < 0 && target[i] != ignored)) return i;
    largest_two(z, classes, &first, &second, &m);
    bool alone = second == -INFINITY;  // no other class is left
    float shift = alone ? 0.0f : second;
    float* kept = DEGREE != -1 ? scratch : nullptr;
    double sum = sum_of_exponentials(z, m, shift, kept) +
                 sum_of_exponentials(z + m + 1, classes - m - 1, shift, kept ? kept + m + 1 : nullptr);
    double gap = (double)first - second;
    double c_m = alone ? 0.0 : std::log1p(sum * std::exp(-gap)), of_top = alone ? INFINITY : gap - std::log(sum);
    if (sum != sum || std::isinf(first) || z[m] != z[m]) c_m = of_top = NAN;
    top[i] = m, odds[i] = of_top;
    c[i] = t == m ? (float)c_m : t < 0 ? 0.0f : (float)((double)first - z[t] + c_m);
    state[i] = (Row){shift, alone ? 0.0f : (float)(1 / sum), (float)std::exp(-c_m), (float)std::exp(-c_m - of_top),
                     0.0f, (float)(c_m + gap)};
    others[i] = 0.0f;
    if (DEGREE != -1) {
      const float nothing = DEGREE == SINGULAR ? -1.0f : 0.0f;
      float sums[2];
      kept[m] = nothing;
      if (t >= 0) kept[t] = nothing;
      if (DEGREE == SINGULAR) sum_of_singular_terms(z, kept, classes, state[i], of, sums);
      else
        sum_of_terms<(DEGREE < 0 ? 0 : DEGREE)>(kept, classes, state[i].inverse_sum * state[i].complement, of->value,
                                                of->slope, sums);
      others[i] = sums[0];
      state[i].slope_sum = sums[1];
    }
  }
  return -1;
}

template <int DEGREE>
static void backward(const float* logits, const int64_t* target, int64_t ignored, int64_t rows, int64_t classes,
                     int64_t stride, const Polynomials* of, const int64_t* top, const Row* state, const float* g_c,
                     const float* g_odds, const float* g_others, float* gradient) {
  for (int64_t i = 0; i < rows; i++) {
    const float* z = logits + i * stride;
    float* g = gradient + i * classes;
    Row row = state[i];
    int64_t m = top[i], t = target[i] == ignored ? -1 : target[i];
    float q = row.complement, p_top = row.top, g_o = DEGREE != -1 ? g_others[i] : 0.0f;
    float g_b = g_o * row.slope_sum, g_target = t >= 0 ? g_c[i] : 0.0f;
    float constant = q * (g_target - g_b) - g_odds[i];
    if (constant == 0.0f && g_o == 0.0f && g_target == 0.0f && g_odds[i] == 0.0f) {
      for (int64_t j = 0; j < classes; j++) g[j] = 0.0f;
      continue;
    }
    float r_target = t >= 0 ? exponential(z[t] - row.second) * row.inverse_sum : 0.0f;
    // which may be z itself
    if (DEGREE == SINGULAR) write_singular_gradient(z, classes, row, g_o, constant, of, g);
    else write_gradient<(DEGREE < 0 ? -1 : DEGREE)>(z, classes, row, q * g_o, constant, of->slope, g);
    float at_top = g_odds[i] - p_top * g_b;
    if (t == m) {
      g[m] = at_top - q * g_target;
    } else {
      g[m] = at_top + p_top * g_target;
      if (t >= 0) g[t] = r_target * constant - g_target;
    }
  }
}

#define EACH_KIND(f) f(SINGULAR) f(-1) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) \
  f(14) f(15) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24)

extern "C" {

// Returns the first row whose target is out of range, or -1. `scratch`, one row of floats, is not used where there is
// no sum over the other classes. `state` holds six floats a row.
int64_t lossmith_forward(const float* logits, const int64_t* target, int64_t ignored, int64_t rows, int64_t classes,
                         int64_t stride, const Polynomials* of, float* c, double* odds, float* others, int64_t* top,
                         float* state, float* scratch) {
#define CASE(k)                                                                                                   \
  case k:                                                                                                         \
    return forward<k>(logits, target, ignored, rows, classes, stride, of, c, odds, others, top, (Row*)state, scratch);
  switch (kind(of)) { EACH_KIND(CASE) }
#undef CASE
  return rows;
}

void lossmith_backward(const float* logits, const int64_t* target, int64_t ignored, int64_t rows, int64_t classes,
                       int64_t stride, const Polynomials* of, const int64_t* top, const float* state, const float* g_c,
                       const float* g_odds, const float* g_others, float* gradient) {
#define CASE(k)                                                                                                   \
  case k:                                                                                                         \
    return backward<k>(logits, target, ignored, rows, classes, stride, of, top, (const Row*)state, g_c, g_odds,   \
                       g_others, gradient);
  switch (kind(of)) { EACH_KIND(CASE) }
#undef CASE
}
}
