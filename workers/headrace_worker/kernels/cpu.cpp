// CPU kernels of the decoder: products with packed weights for few rows, rotary embedding with the KV write, attention
// over paged KV, norms and activations. Plain C entry points; shapes and types are checked by the Python side (cpu.py).
//
// Products keep float32 activations and accumulate in float32, and each output row is reduced in one fixed order, so a
// row's result does not depend on the other rows of the batch.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define LANES 16
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LANES 8
#include <immintrin.h>
#else
#define LANES 4
#endif

namespace {

// ---- a register of LANES floats -------------------------------------------------------------------------------------
#if LANES == 16
using Vec = __m512;
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec splat(float a) { return _mm512_set1_ps(a); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline float sum(Vec a) { return _mm512_reduce_add_ps(a); }
inline Vec load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline Vec load_f16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline Vec load_i8(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
#elif LANES == 8
using Vec = __m256;
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec splat(float a) { return _mm256_set1_ps(a); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline float sum(Vec a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline Vec load_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Vec load_f16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline Vec load_i8(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
#else
typedef float Vec __attribute__((vector_size(16)));
inline Vec zero() { return Vec{0, 0, 0, 0}; }
inline Vec splat(float a) { return Vec{a, a, a, a}; }
inline Vec load(const float* p) { Vec v; std::memcpy(&v, p, 16); return v; }
inline void store(float* p, Vec a) { std::memcpy(p, &a, 16); }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline float sum(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline Vec load_i8(const int8_t* p) { return Vec{(float)p[0], (float)p[1], (float)p[2], (float)p[3]}; }
#endif

inline float from_bf16(uint16_t h) {
  uint32_t bits = (uint32_t)h << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t to_bf16(float f) {  // round to nearest even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float from_f16(uint16_t h) {
#if LANES >= 8
  return _cvtsh_ss(h);
#else
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  float f;
  if (exponent == 0) {
    f = std::ldexp((float)mantissa, -24);
    return sign ? -f : f;
  }
  uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (mantissa << 13);
  std::memcpy(&f, &bits, 4);
  return f;
#endif
}
#if LANES == 4
inline Vec load_bf16(const uint16_t* p) {
  return Vec{from_bf16(p[0]), from_bf16(p[1]), from_bf16(p[2]), from_bf16(p[3])};
}
inline Vec load_f16(const uint16_t* p) { return Vec{from_f16(p[0]), from_f16(p[1]), from_f16(p[2]), from_f16(p[3])}; }
#endif

// exp(a) for a <= 0, within 2 ulp: 2^n times a polynomial of degree 6 on [-ln2/2, ln2/2] (Cephes, Moshier 1989).
// Written without branches or calls, so that the compiler turns the loops around it into vector code everywhere.
inline float exp_negative(float a) {
  a = std::max(a, -87.0f);
  const float n = std::nearbyint(a * 1.44269504088896341f);
  a = a - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * a + 1.3981999507e-3f;
  p = p * a + 8.3334519073e-3f;
  p = p * a + 4.1665795894e-2f;
  p = p * a + 1.6666665459e-1f;
  p = p * a + 5.0000001201e-1f;
  p = p * a * a + a + 1.0f;
  const int32_t bits = ((int32_t)n + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

inline Vec load_as(const float* p) { return load(p); }
inline Vec load_as(const uint16_t* p) { return load_bf16(p); }
inline float read(const float* p) { return *p; }
inline float read(const uint16_t* p) { return from_bf16(*p); }
inline void write(float* p, float v) { *p = v; }
inline void write(uint16_t* p, float v) { *p = to_bf16(v); }

// ---- packed weights: 32 consecutive inputs of one output row as 32 / LANES registers --------------------------------
constexpr int GROUP = 32;
constexpr int REGS = GROUP / LANES;
constexpr int64_t PREFETCH_BYTES = 4096;

struct F32 {
  static constexpr int64_t bytes = GROUP * 4;
  static inline void unpack(const uint8_t* p, Vec* w) {
    for (int i = 0; i < REGS; i++) w[i] = load((const float*)p + i * LANES);
  }
};
struct BF16 {
  static constexpr int64_t bytes = GROUP * 2;
  static inline void unpack(const uint8_t* p, Vec* w) {
    for (int i = 0; i < REGS; i++) w[i] = load_bf16((const uint16_t*)p + i * LANES);
  }
};
struct F16 {
  static constexpr int64_t bytes = GROUP * 2;
  static inline void unpack(const uint8_t* p, Vec* w) {
    for (int i = 0; i < REGS; i++) w[i] = load_f16((const uint16_t*)p + i * LANES);
  }
};
// Quantized groups carry their scales as float32: widening float16 in the inner loop would cost a third of the time.
inline float float_at(const uint8_t* p) {
  float f;
  std::memcpy(&f, p, 4);
  return f;
}
struct Q8 {  // scale, 32 signed bytes
  static constexpr int64_t bytes = 36;
  static inline void unpack(const uint8_t* p, Vec* w) {
    const Vec d = splat(float_at(p));
    for (int i = 0; i < REGS; i++) w[i] = mul(d, load_i8((const int8_t*)p + 4 + i * LANES));
  }
};
// 4-bit weights: low nibbles are inputs 0-15, high nibbles 16-31; value = scale * nibble + offset
inline void unpack_nibbles(const uint8_t* q, float scale, float offset, Vec* w) {
#if LANES == 16
  const __m512 steps = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512 table = _mm512_fmadd_ps(steps, _mm512_set1_ps(scale), _mm512_set1_ps(offset));
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)q));
  w[0] = _mm512_permutexvar_ps(wide, table);  // the permutation reads the low four bits of each index
  w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(wide, 4), table);
#elif LANES == 8
  const __m128i raw = _mm_loadu_si128((const __m128i*)q), mask = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(raw, mask), high = _mm_and_si128(_mm_srli_epi16(raw, 4), mask);
  const Vec d = splat(scale), m = splat(offset);
  w[0] = fma(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)), m);
  w[1] = fma(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(low, 8))), m);
  w[2] = fma(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high)), m);
  w[3] = fma(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(high, 8))), m);
#else
  float v[GROUP];
  for (int i = 0; i < 16; i++) {
    v[i] = scale * (float)(q[i] & 15) + offset;
    v[16 + i] = scale * (float)(q[i] >> 4) + offset;
  }
  for (int i = 0; i < REGS; i++) w[i] = load(v + i * LANES);
#endif
}
struct Q4 {  // scale, offset, 16 bytes of nibbles
  static constexpr int64_t bytes = 24;
  static inline void unpack(const uint8_t* p, Vec* w) { unpack_nibbles(p + 8, float_at(p), float_at(p + 4), w); }
};

// R input rows against N output rows: each weight is unpacked once and used R times.
template <class W, int R, int N>
inline void tile(const float* x, int64_t x_stride, const uint8_t* w, int64_t groups, float* out, int64_t out_stride,
                 bool add) {
  Vec acc[R][N];
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) acc[r][n] = zero();
  const int64_t row_bytes = groups * W::bytes;
  for (int64_t g = 0; g < groups; g++) {
    Vec v[N][REGS];
    for (int n = 0; n < N; n++) {
      const uint8_t* p = w + n * row_bytes + g * W::bytes;
      __builtin_prefetch(p + PREFETCH_BYTES);  // rows are too short for the hardware to see the stream
      W::unpack(p, v[n]);
    }
    for (int r = 0; r < R; r++)
      for (int i = 0; i < REGS; i++) {
        const Vec a = load(x + r * x_stride + g * GROUP + i * LANES);
        for (int n = 0; n < N; n++) acc[r][n] = fma(v[n][i], a, acc[r][n]);
      }
  }
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) {
      float* o = out + r * out_stride + n;
      *o = sum(acc[r][n]) + (add ? *o : 0.0f);
    }
}

template <class W, int R>
void rows(const float* x, const uint8_t* w, float* out, int64_t inputs, int64_t first, int64_t last,
          int64_t out_stride, bool add) {
  constexpr int N = R <= 2 ? 4 : 2;
  const int64_t groups = inputs / GROUP, row_bytes = groups * W::bytes;
  int64_t n = first;
  for (; n + N <= last; n += N) tile<W, R, N>(x, inputs, w + n * row_bytes, groups, out + n, out_stride, add);
  for (; n < last; n++) tile<W, R, 1>(x, inputs, w + n * row_bytes, groups, out + n, out_stride, add);
}

template <class W>
void product(const float* x, const uint8_t* w, float* out, int64_t count, int64_t inputs, int64_t outputs,
             int64_t out_stride, bool add) {
  const int64_t step = 64, strips = (outputs + step - 1) / step;
#pragma omp parallel for schedule(static)
  for (int64_t strip = 0; strip < strips; strip++) {
    const int64_t first = strip * step, last = std::min(outputs, first + step);
    int64_t r = 0;
    for (; r + 8 <= count; r += 8)
      rows<W, 8>(x + r * inputs, w, out + r * out_stride, inputs, first, last, out_stride, add);
    const float* rest = x + r * inputs;
    float* to = out + r * out_stride;
    switch (count - r) {
      case 7: rows<W, 7>(rest, w, to, inputs, first, last, out_stride, add); break;
      case 6: rows<W, 6>(rest, w, to, inputs, first, last, out_stride, add); break;
      case 5: rows<W, 5>(rest, w, to, inputs, first, last, out_stride, add); break;
      case 4: rows<W, 4>(rest, w, to, inputs, first, last, out_stride, add); break;
      case 3: rows<W, 3>(rest, w, to, inputs, first, last, out_stride, add); break;
      case 2: rows<W, 2>(rest, w, to, inputs, first, last, out_stride, add); break;
      case 1: rows<W, 1>(rest, w, to, inputs, first, last, out_stride, add); break;
      default: break;
    }
  }
}

template <class W>
void expand_row(const uint8_t* packed, float* out, int64_t inputs) {
  for (int64_t g = 0; g < inputs / GROUP; g++) {
    Vec v[REGS];
    W::unpack(packed + g * W::bytes, v);
    for (int i = 0; i < REGS; i++) store(out + g * GROUP + i * LANES, v[i]);
  }
}

enum Kind { KIND_F32 = 0, KIND_BF16 = 1, KIND_F16 = 2, KIND_Q8 = 3, KIND_Q4 = 4 };

#define DISPATCH(kind, CALL)                            \
  switch (kind) {                                       \
    case KIND_F32: { using W = F32; CALL; break; }      \
    case KIND_BF16: { using W = BF16; CALL; break; }    \
    case KIND_F16: { using W = F16; CALL; break; }      \
    case KIND_Q8: { using W = Q8; CALL; break; }        \
    case KIND_Q4: { using W = Q4; CALL; break; }        \
  }

// ---- rotary embedding, KV write, attention --------------------------------------------------------------------------
template <class In, class Kv>
void rotate_and_store(In* qkv, const float* cos_sin, const int32_t* positions, const int64_t* slots, Kv* kv,
                      int64_t tokens, int heads, int kv_heads, int dim, int block_size) {
  const int half = dim / 2;
  const int64_t row = (int64_t)(heads + 2 * kv_heads) * dim;
#pragma omp parallel for schedule(static) if (tokens > 4)
  for (int64_t t = 0; t < tokens; t++) {
    const float* c = cos_sin + (int64_t)positions[t] * dim;
    const float* s = c + half;
    In* base = qkv + t * row;
    for (int h = 0; h < heads + kv_heads; h++) {
      In* x = base + (int64_t)h * dim;
      for (int i = 0; i < half; i++) {
        const float a = read(x + i), b = read(x + half + i);
        write(x + i, a * c[i] - b * s[i]);
        write(x + half + i, b * c[i] + a * s[i]);
      }
    }
    const int64_t block = slots[t] / block_size, offset = slots[t] % block_size;
    for (int part = 0; part < 2; part++)
      for (int h = 0; h < kv_heads; h++) {
        const In* from = base + (int64_t)(heads + part * kv_heads + h) * dim;
        Kv* to = kv + (((block * 2 + part) * kv_heads + h) * block_size + offset) * dim;
        for (int i = 0; i < dim; i++) write(to + i, read(from + i));
      }
  }
}

// One query row against its own context from token `begin` on; G query heads share one KV head. Scores in `scores`
// (G x context).
template <class Kv, int G>
void attend_head(const float* q, const Kv* kv, const int32_t* table, int64_t begin, int64_t context, int head,
                 int kv_heads, int dim, int block_size, float scale, float* scores, float* out) {
  const int64_t half_block = (int64_t)kv_heads * block_size * dim, first_block = begin - begin % block_size;
  for (int64_t first = first_block; first < context; first += block_size) {
    const Kv* keys = kv + (int64_t)table[first / block_size] * 2 * half_block + (int64_t)head * block_size * dim;
    const int count = (int)std::min<int64_t>(block_size, context - first);
    for (int t = (int)std::max<int64_t>(0, begin - first); t < count; t++) {
      Vec acc[G];
      for (int g = 0; g < G; g++) acc[g] = zero();
      for (int i = 0; i < dim; i += LANES) {
        const Vec k = load_as(keys + (int64_t)t * dim + i);
        for (int g = 0; g < G; g++) acc[g] = fma(k, load(q + (int64_t)g * dim + i), acc[g]);
      }
      for (int g = 0; g < G; g++) scores[g * context + first + t] = sum(acc[g]) * scale;
    }
  }
  float inverse[G];
  for (int g = 0; g < G; g++) {
    float* s = scores + g * context;
    float most = s[begin], total = 0;
    for (int64_t t = begin + 1; t < context; t++) most = std::max(most, s[t]);
#pragma omp simd reduction(+ : total)
    for (int64_t t = begin; t < context; t++) {
      s[t] = exp_negative(s[t] - most);
      total += s[t];
    }
    inverse[g] = 1.0f / total;
    std::memset(out + (int64_t)g * dim, 0, dim * sizeof(float));
  }
  for (int i = 0; i < dim; i += LANES) {
    Vec acc[G];
    for (int g = 0; g < G; g++) acc[g] = zero();
    for (int64_t first = first_block; first < context; first += block_size) {
      const Kv* values =
          kv + ((int64_t)table[first / block_size] * 2 + 1) * half_block + (int64_t)head * block_size * dim + i;
      const int count = (int)std::min<int64_t>(block_size, context - first);
      for (int t = (int)std::max<int64_t>(0, begin - first); t < count; t++) {
        const Vec v = load_as(values + (int64_t)t * dim);
        for (int g = 0; g < G; g++) acc[g] = fma(v, splat(scores[g * context + first + t]), acc[g]);
      }
    }
    for (int g = 0; g < G; g++) store(out + (int64_t)g * dim + i, mul(acc[g], splat(inverse[g])));
  }
}

template <class Kv>
void attend(const float* q, int64_t q_stride, const Kv* kv, const int32_t* tables, int64_t table_stride,
            const int32_t* contexts, float* out, int64_t count, int heads, int kv_heads, int dim, int block_size,
            int window, float scale) {
  const int group = heads / kv_heads;
  int64_t longest = 0;
  for (int64_t r = 0; r < count; r++) longest = std::max<int64_t>(longest, contexts[r]);
#pragma omp parallel if (count * longest > 64)
  {
    std::vector<float> scores((size_t)(4 * longest));
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < count; r++)
      for (int h = 0; h < kv_heads; h++) {
        int g = 0;
        while (g < group) {
          const int head = h * group + g, left = group - g;
          const float* qh = q + r * q_stride + (int64_t)head * dim;
          float* oh = out + (r * heads + head) * (int64_t)dim;
          const int32_t* table = tables + r * table_stride;
          const int64_t begin = window ? std::max<int64_t>(0, contexts[r] - window) : 0;
#define HEADS(G) \
  attend_head<Kv, G>(qh, kv, table, begin, contexts[r], h, kv_heads, dim, block_size, scale, scores.data(), oh)
          if (left >= 4) { HEADS(4); g += 4; }
          else if (left == 3) { HEADS(3); g += 3; }
          else if (left == 2) { HEADS(2); g += 2; }
          else { HEADS(1); g += 1; }
#undef HEADS
        }
      }
  }
}

template <class Out>
void rms_norm(const float* x, const float* weight, Out* out, int64_t count, int64_t dim, float eps) {
#pragma omp parallel for schedule(static) if (count > 8)
  for (int64_t r = 0; r < count; r++) {
    const float* row = x + r * dim;
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < dim; i++) total += row[i] * row[i];
    const float scale = 1.0f / std::sqrt(total / (float)dim + eps);
    for (int64_t i = 0; i < dim; i++) write(out + r * dim + i, row[i] * scale * weight[i]);
  }
}

template <class T>
void silu_mul(const T* gate_up, T* out, int64_t count, int64_t dim) {
#pragma omp parallel for schedule(static) if (count > 4)
  for (int64_t r = 0; r < count; r++) {
    const T* gate = gate_up + r * 2 * dim;
    const T* up = gate + dim;
#pragma omp simd
    for (int64_t i = 0; i < dim; i++) {
      const float g = read(gate + i), e = exp_negative(-std::fabs(g));
      write(out + r * dim + i, g * (g >= 0 ? 1.0f : e) / (1.0f + e) * read(up + i));
    }
  }
}

}  // namespace

extern "C" {

int hr_lanes() { return LANES; }

int hr_linear(const float* x, const void* w, int kind, float* out, int64_t count, int64_t inputs, int64_t outputs,
              int64_t out_stride, int add) {
  DISPATCH(kind, product<W>(x, (const uint8_t*)w, out, count, inputs, outputs, out_stride, add != 0));
  return 0;
}

// Rows `ids` (or rows 0..count-1 where ids is null) of a packed matrix, as float32 or bfloat16.
int hr_expand(const void* w, int kind, const int64_t* ids, void* out, int out_bf16, int64_t count, int64_t inputs) {
#pragma omp parallel if (count > 64)
  {
    std::vector<float> row(out_bf16 ? (size_t)inputs : 0);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < count; r++) {
      const int64_t id = ids ? ids[r] : r;
      float* to = out_bf16 ? row.data() : (float*)out + r * inputs;
      DISPATCH(kind, expand_row<W>((const uint8_t*)w + id * (inputs / GROUP) * W::bytes, to, inputs));
      if (out_bf16)
        for (int64_t i = 0; i < inputs; i++) ((uint16_t*)out)[r * inputs + i] = to_bf16(row[i]);
    }
  }
  return 0;
}

int hr_rms_norm(const float* x, const float* weight, void* out, int out_bf16, int64_t count, int64_t dim, float eps) {
  if (out_bf16) rms_norm(x, weight, (uint16_t*)out, count, dim, eps);
  else rms_norm(x, weight, (float*)out, count, dim, eps);
  return 0;
}

int hr_silu_mul(const void* gate_up, void* out, int bf16, int64_t count, int64_t dim) {
  if (bf16) silu_mul((const uint16_t*)gate_up, (uint16_t*)out, count, dim);
  else silu_mul((const float*)gate_up, (float*)out, count, dim);
  return 0;
}

int hr_rotate_store(void* qkv, int qkv_bf16, const float* cos_sin, const int32_t* positions, const int64_t* slots,
                    void* kv, int kv_bf16, int64_t tokens, int heads, int kv_heads, int dim, int block_size) {
  if (qkv_bf16 && kv_bf16)
    rotate_and_store((uint16_t*)qkv, cos_sin, positions, slots, (uint16_t*)kv, tokens, heads, kv_heads, dim, block_size);
  else if (qkv_bf16)
    rotate_and_store((uint16_t*)qkv, cos_sin, positions, slots, (float*)kv, tokens, heads, kv_heads, dim, block_size);
  else if (kv_bf16)
    rotate_and_store((float*)qkv, cos_sin, positions, slots, (uint16_t*)kv, tokens, heads, kv_heads, dim, block_size);
  else
    rotate_and_store((float*)qkv, cos_sin, positions, slots, (float*)kv, tokens, heads, kv_heads, dim, block_size);
  return 0;
}

// `window`: how many of its last tokens each row sees, itself included; 0 is all.
int hr_attend(const float* q, int64_t q_stride, const void* kv, int kv_bf16, const int32_t* tables,
              int64_t table_stride, const int32_t* contexts, float* out, int64_t count, int heads, int kv_heads, int dim,
              int block_size, int window, float scale) {
  if (dim % LANES != 0) return -1;
  if (kv_bf16)
    attend(q, q_stride, (const uint16_t*)kv, tables, table_stride, contexts, out, count, heads, kv_heads, dim,
           block_size, window, scale);
  else
    attend(q, q_stride, (const float*)kv, tables, table_stride, contexts, out, count, heads, kv_heads, dim, block_size,
           window, scale);
  return 0;
}

// Per row of logits: index of the largest, its value, the second largest value, log of the sum of exponentials.
int hr_summarize(const float* logits, int64_t count, int64_t vocabulary, int64_t* best, float* most, float* second,
                 float* log_sum) {
#pragma omp parallel for schedule(static) if (count > 1)
  for (int64_t r = 0; r < count; r++) {
    const float* row = logits + r * vocabulary;
    float top = -INFINITY, next = -INFINITY;
    int64_t at = 0;
    for (int64_t i = 0; i < vocabulary; i++) {
      if (row[i] > next) {
        if (row[i] > top) {
          next = top;
          top = row[i];
          at = i;
        } else {
          next = row[i];
        }
      }
    }
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < vocabulary; i++) total += exp_negative(row[i] - top);
    best[r] = at;
    most[r] = top;
    second[r] = next;
    log_sum[r] = top + std::log(total);
  }
  return 0;
}

}  // extern "C"
