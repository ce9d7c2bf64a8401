/*
 * Tests network.c.
 *
 *   test_network                 compares answers with expected ones, prints PASS or FAIL
 *   test_network --benchmark N   median microseconds of a call, over N measurements
 *   test_network --stdin         reads inputs, as raw numbers, and writes the answers of each
 */
#include "network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if NETWORK_EXPORT != 0x40d68230u
#error "network.h is of another export than this file; export both again"
#endif

/* Answers of TensorFlow with the weights of this code, when it was written. */
static const float rows[128] = {
    0.0f, 0.64421767f, 0.985449731f, 0.863209367f, 0.334988147f, -0.350783229f, -0.871575773f, -0.982452631f, -0.631266654f, 0.0168139003f, 0.656986594f, 0.98816824f,
    0.85459888f, 0.319098353f, -0.366479129f, -0.879695773f, -0.979177713f, -0.618137121f, 0.0336230472f, 0.66956979f, 0.990607381f, 0.845746815f, 0.303118348f, -0.382071406f,
    -0.887567043f, -0.975625992f, -0.604832828f, 0.0504226871f, 0.681963623f, 0.99276638f, 0.836655617f, 0.287052661f, -0.397555679f, -0.895187378f, -0.97179842f, -0.591357529f,
    0.067208074f, 0.694164693f, 0.994644761f, 0.827327907f, 0.270905793f, -0.412927538f, -0.902554631f, -0.96769613f, -0.577715039f, 0.0839744583f, 0.706169486f, 0.996241927f,
    0.817766249f, 0.254682332f, -0.428182662f, -0.909666657f, -0.963320196f, -0.563909233f, 0.100717098f, 0.717974603f, 0.997557402f, 0.807973385f, 0.238386869f, -0.443316728f,
    -0.916521549f, -0.958671987f, -0.549943984f, 0.117431261f, 0.729576766f, 0.998590887f, 0.797952116f, 0.222024009f, -0.458325446f, -0.92311728f, -0.953752637f, -0.535823226f,
    0.134112224f, 0.740972638f, 0.999342024f, 0.787705243f, 0.205598384f, -0.473204583f, -0.929452062f, -0.948563695f, -0.521551013f, 0.150755271f, 0.752158999f, 0.999810576f,
    0.777235627f, 0.189114615f, -0.487949938f, -0.935524046f, -0.943106532f, -0.507131338f, 0.167355701f, 0.763132691f, 0.999996483f, 0.766546309f, 0.172577396f, -0.502557337f,
    -0.941331506f, -0.937382758f, -0.492568254f, 0.183908805f, 0.773890674f, 0.999899685f, 0.755640209f, 0.155991375f, -0.517022669f, -0.94687283f, -0.931393981f, -0.477865934f,
    0.200409919f, 0.784429848f, 0.999520183f, 0.744520545f, 0.139361247f, -0.531341791f, -0.952146471f, -0.925141811f, -0.463028491f, 0.216854379f, 0.794747233f, 0.998858035f,
    0.733190298f, 0.122691728f, -0.545510709f, -0.957150936f, -0.918628097f, -0.448060155f, 0.23323752f, 0.804839909f
};

static const float expected_prediction[12] = {
    0.341018021f, 0.299467146f, 0.359514773f, 0.272513658f, 0.439331025f, 0.288155317f, 0.291873097f, 0.292425573f, 0.41570133f, 0.285814255f, 0.41270408f, 0.301481634f
};

static const float expected_uncertainty[4] = {
    1.09574032f, 1.07417548f, 1.08387125f, 1.08470106f
};

static const float expected_mutual_information[4] = {
    0.0152047873f, 0.0182644129f, 0.0133894682f, 0.0180808306f
};

static network_scratch scratch;
static float prediction[NETWORK_PREDICTION_SIZE];
static float uncertainty[NETWORK_UNCERTAINTY_SIZE];
static float mutual_information[NETWORK_UNCERTAINTY_SIZE];

static void predict(const float *input)
{
    network_predict(input, prediction, uncertainty, mutual_information, &scratch);
}

static double largest_difference(int size, const float *found, const float *expected)
{
    double largest = 0.0;
    for (int i = 0; i < size; i++) {
        const double difference = fabs((double)found[i] - (double)expected[i]);
        if (!(difference <= largest)) {
            largest = difference;  /* also if it is no number */
        }
    }
    return largest;
}

static int compare(void)
{
    static const double tolerances[3] = {1e-05, 1.1e-05, 1e-05};
    static const char *const names[3] = {"prediction", "uncertainty", "mutual information"};
    double differences[3] = {0.0, 0.0, 0.0};
    int failed = 0;
    for (int row = 0; row < 4; row++) {
        double found[3];
        predict(rows + row * NETWORK_INPUT_SIZE);
        found[0] = largest_difference(NETWORK_PREDICTION_SIZE, prediction,
                                      expected_prediction + row * NETWORK_PREDICTION_SIZE);
        found[1] = largest_difference(NETWORK_UNCERTAINTY_SIZE, uncertainty,
                                      expected_uncertainty + row * NETWORK_UNCERTAINTY_SIZE);
        found[2] = largest_difference(NETWORK_UNCERTAINTY_SIZE, mutual_information,
                                      expected_mutual_information + row * NETWORK_UNCERTAINTY_SIZE);
        for (int i = 0; i < 3; i++) {
            if (!(found[i] <= differences[i])) {
                differences[i] = found[i];
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        printf("%s: off by at most %.3g, the tolerance is %.3g\n", names[i], differences[i],
               tolerances[i]);
        failed |= !(differences[i] <= tolerances[i]);
    }
    printf(failed ? "FAIL\n" : "PASS\n");
    return failed;
}

static double microseconds(long calls)
{
    const clock_t start = clock();
    for (long call = 0; call < calls; call++) {
        predict(rows + (call % 4) * NETWORK_INPUT_SIZE);
    }
    return 1e6 * (double)(clock() - start) / CLOCKS_PER_SEC;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int benchmark(long measurements)
{
    long calls = 1;
    double *times = measurements > 0 ? malloc((size_t)measurements * sizeof *times) : NULL;
    if (!times) {
        fprintf(stderr, "The number of measurements must be positive and fit in memory.\n");
        return 2;
    }
    /* clock() is coarse: a measurement is as many calls as take 2 ms. */
    while (microseconds(calls) < 2000.0) {
        calls *= 2;
    }
    for (long i = 0; i < measurements; i++) {
        times[i] = microseconds(calls) / (double)calls;
    }
    qsort(times, (size_t)measurements, sizeof *times, ascending);
    printf("%.3f\n", times[measurements / 2]);
    free(times);
    return 0;
}

static int answer_stdin(void)
{
    static float input[NETWORK_INPUT_SIZE];
    while (fread(input, sizeof input, 1, stdin) == 1) {
        predict(input);
        fwrite(prediction, sizeof prediction, 1, stdout);
        fwrite(uncertainty, sizeof uncertainty, 1, stdout);
        fwrite(mutual_information, sizeof mutual_information, 1, stdout);
    }
    return ferror(stdin) || fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--benchmark") == 0) {
        return benchmark(strtol(argv[2], NULL, 10));
    }
    if (argc == 2 && strcmp(argv[1], "--stdin") == 0) {
        return answer_stdin();
    }
    return compare();
}
