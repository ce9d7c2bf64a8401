/* See network.h. */
#include "network.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#if NETWORK_EXPORT != 0x40d68230u
#error "network.h is of another export than this file; export both again"
#endif

static const float layer_0_loc[24] = {
    -0.0971316844f, -0.232554272f, -0.141187683f, 0.100815549f, 0.0776080489f, -0.0758386999f, -0.0898990929f, 0.050053373f, -0.210838556f, -0.0951566249f, 0.344567716f, -0.385405451f,
    -0.157948181f, -0.327151299f, -0.281106412f, 0.317561954f, -0.372169495f, 0.148345321f, -0.27675724f, 0.297512174f, -0.1354222f, 0.336235046f, -0.113116808f, -0.30414319f
};

static const float layer_0_weight_variance[24] = {
    0.0135934958f, 0.013595162f, 0.0135941766f, 0.0135803418f, 0.0135864569f, 0.0135897417f, 0.0135779912f, 0.0135816634f, 0.0135945333f, 0.0135958707f, 0.0135930125f, 0.0135909086f,
    0.0135954488f, 0.0135915931f, 0.0135947568f, 0.0135947941f, 0.0135852098f, 0.0135936989f, 0.0135926651f, 0.0135950316f, 0.0135955671f, 0.0135958903f, 0.0135857463f, 0.0135950455f
};

static const float layer_0_bias[3] = {
    0.0892531127f, 0.098868452f, -0.0918777585f
};

static const float layer_0_bias_variance[3] = {
    0.0135728521f, 0.0135948006f, 0.0135899121f
};

static const float layer_1_loc[81] = {
    -0.0379393995f, 0.111847341f, 0.0335559137f, 0.0115718208f, 0.00745013356f, -0.316392362f, 0.13740176f, -0.0200335346f, 0.2490087f, -0.25338456f, -0.244797736f, 0.0195300076f,
    -0.185051143f, -0.0695715174f, 0.0339475051f, 0.216234192f, -0.201797947f, 0.0267394651f, -0.259410352f, -0.0342128761f, -0.286856383f, 0.0645965934f, 0.342827916f, 0.0308100097f,
    -0.248443022f, 0.0785984397f, -0.251375228f, -0.0397915468f, -0.0165969431f, 0.280240536f, 0.00762534142f, -0.32956329f, -0.233960122f, -0.226566613f, -0.0127900839f, 0.0128963813f,
    -0.191090658f, 0.129769638f, -0.255570084f, 0.0929036885f, -0.152133226f, -0.345847845f, 0.26772657f, 0.305660337f, 0.0430791192f, -0.223292515f, 0.130582035f, 0.00892669708f,
    0.0222039521f, 0.0237235799f, -0.154878378f, -0.0955460146f, -0.157396391f, 0.108846605f, -0.0978616923f, 0.188689977f, 0.258818001f, -0.0528456755f, 0.0154491812f, 0.226317704f,
    -0.0257580839f, 0.167114586f, -0.0229133591f, 0.0283175968f, -0.17293106f, 0.295888275f, -0.0865517631f, -0.0529017597f, 0.101298884f, 0.10054329f, 0.0871132165f, -0.0129945278f,
    -0.176568672f, -0.233914182f, -0.00802696496f, -0.209198043f, 0.0221997835f, -0.0291215703f, 0.0562691204f, 0.240275919f, -0.153314844f
};

static const float layer_1_weight_variance[81] = {
    0.00404707342f, 0.0040470399f, 0.0040470534f, 0.00404678425f, 0.0040467889f, 0.00404635584f, 0.0040475158f, 0.00404713303f, 0.00404759357f, 0.00404717959f, 0.00404718425f, 0.0040470711f,
    0.00404712325f, 0.00404770626f, 0.0040467754f, 0.00404720474f, 0.00404713862f, 0.00404699938f, 0.00404715398f, 0.00404660963f, 0.00404711952f, 0.00404645037f, 0.00404757448f, 0.00404676888f,
    0.00404662592f, 0.00404735003f, 0.0040460485f, 0.00404699938f, 0.00404674793f, 0.0040468853f, 0.00404619845f, 0.00404746924f, 0.00404720986f, 0.00404746737f, 0.00404729415f, 0.00404682662f,
    0.00404724851f, 0.00404727133f, 0.00404706923f, 0.0040471158f, 0.00404733093f, 0.00404570438f, 0.00404725922f, 0.00404698402f, 0.0040469463f, 0.00404772349f, 0.00404689042f, 0.00404675351f,
    0.00404637633f, 0.00404741336f, 0.00404765131f, 0.00404691603f, 0.00404765224f, 0.00404697284f, 0.0040471158f, 0.0040471442f, 0.00404735748f, 0.00404753862f, 0.00404647691f, 0.00404718425f,
    0.00404758425f, 0.00404705526f, 0.00404766295f, 0.00404723361f, 0.00404657843f, 0.00404717261f, 0.0040471633f, 0.0040473328f, 0.00404724013f, 0.00404724013f, 0.00404523918f, 0.00404744409f,
    0.00404714234f, 0.00404723268f, 0.00404676516f, 0.00404699752f, 0.00404693279f, 0.00404653093f, 0.00404732535f, 0.00404638238f, 0.0040471605f
};

static const float layer_1_bias[3] = {
    0.0841662586f, -0.0934500843f, -0.0212405026f
};

static const float layer_1_bias_variance[3] = {
    0.00404738123f, 0.0040475945f, 0.00404685503f
};

static const float points[96] = {
    0.440993011f, 0.16670756f, 0.857398748f, -0.212404385f, 1.28076792f, -2.10256386f, 1.41417444f, -2.31241536f, 0.278584599f, -1.75565946f, -0.402828246f, -0.207940161f,
    0.108568273f, 0.460765332f, -0.519212186f, -0.556603968f, -1.16933358f, 1.19873643f, 0.830254197f, -0.113388933f, -1.26200974f, -0.753018081f, 0.80214411f, 0.487297416f,
    0.624157906f, -0.505967855f, -0.013906939f, -0.0512779728f, 0.359570742f, -0.307727337f, 2.09102464f, 1.93846154f, 1.86800098f, -1.27760291f, -1.37772453f, -0.899693549f,
    0.271149635f, -0.207653821f, 0.722354949f, -0.379061431f, 0.679828942f, 0.179553479f, 1.07776976f, -0.858870625f, -0.410967678f, -1.11834812f, 0.0729764774f, 1.44695807f,
    0.354836822f, 1.09324086f, -1.06189871f, -0.294745594f, -0.614779711f, 0.600310683f, 1.22921991f, 0.261923671f, 0.0824034959f, -2.32727504f, 1.52866817f, -0.634521544f,
    0.0285571534f, -1.67257059f, 1.01202869f, -0.651778102f, -0.303797215f, -1.54031789f, 0.723499298f, 0.566902578f, 0.38068369f, -0.862309635f, -1.00205529f, -0.110358045f,
    0.530429065f, -0.0201190505f, -0.786455035f, -0.131429672f, 0.937779009f, 0.829088271f, 1.66297877f, -0.652655602f, -2.39839125f, -1.47624946f, 0.229964256f, 0.2585738f,
    0.18925564f, 1.43608713f, -0.227684423f, -0.466060817f, -1.8130554f, -0.541630626f, 0.947015047f, -0.336431772f, 1.15784192f, -0.920831382f, 0.530872166f, -1.30921757f
};

typedef struct {
    int inputs, units;
    const float *loc;
    const float *weight_variance;
    const float *bias;
    const float *bias_variance;
} matrix_dense_float32_full;

static void product_dense_float32_full(
    const matrix_dense_float32_full *matrix,
    int group, size_t entry,
    const float *mean,
    float *output_mean,
    float *output_variance)
{
    const int units = matrix->units, first = group * units;
    const float *loc = matrix->loc + entry;
    const float *weight_variance = matrix->weight_variance + entry;
    for (int unit = 0; unit < units; unit++) {
        output_mean[unit] = output_variance[unit] = 0.0f;
    }
    for (int input = 0; input < matrix->inputs; input++) {
        const float m = mean[input];
        const float square = m * m;
        const long count = units;
        if (m != 0.0f) {
            for (long unit = 0; unit < count; unit++) {
                const float w = loc[unit];
                output_mean[unit] += w * m;
                output_variance[unit] += weight_variance[unit] * square;
            }
        }
        loc += count;
        weight_variance += count;
    }
    for (int unit = 0; unit < units; unit++) {
        const int i = first + unit;
        output_mean[unit] = output_mean[unit] + (matrix->bias ? matrix->bias[i] : 0.0f);
        output_variance[unit] = output_variance[unit]
            + (matrix->bias_variance ? matrix->bias_variance[i] : 0.0f);
    }
}

/* A window that goes over rows and columns; a sequence is a picture of one row. */
typedef struct {
    int height, width, channels;            /* of the input */
    int rows, columns;                      /* of the output */
    int window_height, window_width;
    int stride_height, stride_width;
    int dilation_height, dilation_width;
    int top, left;                          /* padding before the input */
} window;

/* Place of one element of the window in the input, -1 if it is in the padding. */
static int offset(const window *w, int row, int column, int i, int j)
{
    const int y = row * w->stride_height + i * w->dilation_height - w->top;
    const int x = column * w->stride_width + j * w->dilation_width - w->left;
    if (y < 0 || y >= w->height || x < 0 || x >= w->width) {
        return -1;
    }
    return (y * w->width + x) * w->channels;
}

/* Copy `count` channels of what the window sees at one place, zero in the padding. */
static void gather(const window *w, int row, int column, int first, int count,
                   const float *input, float *patch)
{
    for (int i = 0; i < w->window_height; i++) {
        for (int j = 0; j < w->window_width; j++) {
            const int from = offset(w, row, column, i, j);
            for (int channel = 0; channel < count; channel++) {
                *patch++ = from < 0 ? 0.0f : input[from + first + channel];
            }
        }
    }
}

/* 'first' (Convolution2DFlipout): 4x4x2 -> 3x3x3 */
static void linear_0(const float *mean, float *output_mean, float *output_variance, float *patch)
{
    const matrix_dense_float32_full matrix = {
        8,
        3,
        layer_0_loc,
        layer_0_weight_variance,
        layer_0_bias,
        layer_0_bias_variance,
    };
    const window w = {4, 4, 2, 3, 3, 2, 2, 1, 1, 1, 1, 0, 0};
    for (int place = 0; place < 9; place++) {
        gather(&w, place / 3, place % 3, 0, 2, mean, patch);
        product_dense_float32_full(&matrix, 0, 0, patch, output_mean, output_variance);
        output_mean += 3;
        output_variance += 3;
    }
}

static inline float larger(float x, float y)
{
    return x > y ? x : y;
}

/* exp(x) to 3e-7 of it, for x from -87 to 87, and no further than that. Unlike with expf, several
   can be computed at a time. */
static inline float exponential(float x)
{
    const float bounded = x > -87.0f ? (x < 87.0f ? x : 87.0f) : -87.0f;
    const float halves = bounded * 1.44269504f;
    const int whole = (int)(halves + (halves < 0.0f ? -0.5f : 0.5f));
    const float r = bounded - (float)whole * 0.693359375f + (float)whole * 2.12194440e-4f;
    const float rest = 0.5f + r * (0.166666655f + r * (0.0416657959f
        + r * (0.00833345191f + r * (0.00139819995f + r * 1.98756915e-4f))));
    union {
        uint32_t bits;
        float value;
    } power;
    power.bits = (uint32_t)(whole + 127) << 23;
    return x == x ? power.value * (1.0f + r + r * r * rest) : x;
}

/* Mean and variance of the larger of two independent normals (Clark 1961). Returns the probability
   that it is the first, by the approximation of Bowling et al. 2009: no erf is needed. */
static inline float maximum(float mean1, float variance1, float mean2, float variance2,
                            float *mean, float *variance)
{
    const float theta = sqrtf(larger(variance1 + variance2, 1e-12f));
    const float distance = (mean1 - mean2) / theta;
    const float a = distance > 8.0f ? 8.0f : larger(distance, -8.0f);
    const float first = 1.0f / (1.0f + exponential(-(1.5976f * a + 0.07056f * a * a * a)));
    const float density = 0.398942280f * exponential(-0.5f * a * a);
    const float upper = a * first + density;
    *mean = mean2 + (mean1 - mean2) * first + theta * density;
    *variance = larger(0.0f, variance1 * first + variance2 * (1.0f - first)
                                 - theta * theta * upper * (upper - a));
    return first;
}

/* slope * x + (1 - slope) * max(x, 0) */
static void leaky_relu(int count, float slope, float *restrict mean, float *restrict variance)
{
    const float rest = 1.0f - slope;
    for (int i = 0; i < count; i++) {
        const float m = mean[i];
        if (variance) {
            float upper_mean, upper_variance;
            const float v = variance[i];
            const float first = maximum(m, v, 0.0f, 0.0f, &upper_mean, &upper_variance);
            mean[i] = slope * m + rest * upper_mean;
            variance[i] = slope * slope * v + rest * rest * upper_variance
                + 2.0f * slope * rest * v * first;
        } else {
            mean[i] = m > 0.0f ? m : slope * m;
        }
    }
}

static void product_dense_float32_full_of_moments(
    const matrix_dense_float32_full *matrix,
    int group, size_t entry,
    const float *mean,
    const float *variance,
    float *output_mean,
    float *output_variance)
{
    const int units = matrix->units, first = group * units;
    const float *loc = matrix->loc + entry;
    const float *weight_variance = matrix->weight_variance + entry;
    for (int unit = 0; unit < units; unit++) {
        output_mean[unit] = output_variance[unit] = 0.0f;
    }
    for (int input = 0; input < matrix->inputs; input++) {
        const float m = mean[input];
        const float v = variance[input];
        const float square = m * m + v;
        const long count = units;
        if (m != 0.0f || v != 0.0f) {
            for (long unit = 0; unit < count; unit++) {
                const float w = loc[unit];
                output_mean[unit] += w * m;
                output_variance[unit] += w * w * v + weight_variance[unit] * square;
            }
        }
        loc += count;
        weight_variance += count;
    }
    for (int unit = 0; unit < units; unit++) {
        const int i = first + unit;
        output_mean[unit] = output_mean[unit] + (matrix->bias ? matrix->bias[i] : 0.0f);
        output_variance[unit] = output_variance[unit]
            + (matrix->bias_variance ? matrix->bias_variance[i] : 0.0f);
    }
}

/* 'last' (DenseFlipout): 27 -> 3 */
static void linear_2(const float *mean, const float *variance, float *output_mean, float *output_variance)
{
    const matrix_dense_float32_full matrix = {
        27,
        3,
        layer_1_loc,
        layer_1_weight_variance,
        layer_1_bias,
        layer_1_bias_variance,
    };
    for (int place = 0; place < 1; place++) {
        product_dense_float32_full_of_moments(&matrix, 0, 0, mean, variance, output_mean, output_variance);
        output_mean += 3;
        output_variance += 3;
        mean += 27;
        variance += 27;
    }
}

enum { PLACES = 1, FEATURES = 3, TARGETS = 3, POINTS = 64 };

static float point(int draw, int feature)
{
    const int half = POINTS / 2;
    return draw < half ? points[draw * FEATURES + feature]
                       : -points[(draw - half) * FEATURES + feature];
}

static void outputs_at(int draw, const float *mean, const float *variance, float *outputs)
{
    for (int i = 0; i < FEATURES; i++) {
        outputs[i] = mean[i] + (variance ? sqrtf(variance[i]) * point(draw, i) : 0.0f);
    }
}

/* Probabilities in place; returns their entropy, in nats, without a logarithm of each. */
static float softmax(int classes, float *x)
{
    float largest = x[0], sum = 0.0f, weighted = 0.0f;
    for (int i = 1; i < classes; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (int i = 0; i < classes; i++) {
        const float below = x[i] - largest;
        x[i] = exponential(below);
        sum += x[i];
        weighted += x[i] * (below > -87.0f ? below : -87.0f);
    }
    const float share = 1.0f / sum;
    for (int i = 0; i < classes; i++) {
        x[i] *= share;
    }
    return logf(sum) - weighted * share;
}

static float probabilities(int count, float *x)
{
    return softmax(count, x);
}

/* -p * log(p), in nats */
static float surprise(float p)
{
    return -p * logf(p > 1.2e-38f ? p : 1.2e-38f);
}

/* Mean probabilities; their entropy; and what of it is disagreement (mutual information). */
static void answer(const float *mean, const float *variance, float *prediction,
                   float *uncertainty, float *mutual_information, float *work)
{
    for (int place = 0; place < PLACES; place++) {
        const int draws = variance ? POINTS : 1;
        const float share = 1.0f / (float)draws;
        float entropy = 0.0f, expected = 0.0f;
        for (int i = 0; i < FEATURES; i++) {
            prediction[i] = 0.0f;
        }
        for (int draw = 0; draw < draws; draw++) {
            outputs_at(draw, mean, variance, work);
            expected += probabilities(FEATURES, work) * share;
            for (int i = 0; i < FEATURES; i++) {
                prediction[i] += work[i] * share;
            }
        }
        for (int i = 0; i < FEATURES; i++) {
            entropy += surprise(prediction[i]);
        }
        *uncertainty++ = entropy;
        *mutual_information++ = variance && entropy > expected ? entropy - expected : 0.0f;
        prediction += FEATURES;
        mean += FEATURES;
        variance = variance ? variance + FEATURES : NULL;
    }
}

void network_predict(const float *input,
                     float *prediction,
                     float *uncertainty,
                     float *mutual_information,
                     network_scratch *scratch)
{
    float *const buffer = scratch->buffer;

    linear_0(input, buffer + 0, buffer + 27, buffer + 54);
    leaky_relu(27, 0.0f, buffer + 0, buffer + 27);
    linear_2(buffer + 0, buffer + 27, buffer + 54, buffer + 57);
    answer(buffer + 54, buffer + 57, prediction, uncertainty, mutual_information, buffer + 0);
}
