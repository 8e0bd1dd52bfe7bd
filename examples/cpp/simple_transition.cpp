// A transition between two prompts, as PPM files: frame_000.ppm, frame_001.ppm, ...
//
//     c++ -std=c++17 simple_transition.cpp $(pkg-config --cflags --libs latentblend) -o simple_transition
//     ./simple_transition [FRAMES [MODEL]]
//
// MODEL is a folder or file of the Stable Diffusion 2 family; without it, the embedded demo model.
#include <latentblend.hpp>

#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace lb = latentblend;

// A call that shows how far it is. What a callback throws would come out of the call.
static lb::Call shown(const char *name) {
    return lb::Call().on_progress([name](const lb::Progress &progress) {
        std::cerr << '\r' << name << ": " << static_cast<int>(100 * progress.fraction) << " %";
    });
}

static void write_ppm(int number, const std::vector<char> &pixels, const lb_session_info &info) {
    std::ostringstream name;
    name << "frame_" << std::setw(3) << std::setfill('0') << number << ".ppm";
    std::ofstream file;
    file.exceptions(std::ios::badbit | std::ios::failbit);
    file.open(name.str(), std::ios::binary);
    file << "P6\n" << info.width << ' ' << info.height << "\n255\n";
    file.write(pixels.data(), static_cast<std::streamsize>(pixels.size()));
    file.close();
}

static void run(int frames, const char *path) {
    const lb::Model model =
        path != nullptr ? lb::Model::load(path, lb::ModelOptions(), shown("model"))
                        : lb::Model::demo(lb::ModelOptions(), shown("model"));
    lb::BlendOptions options;
    options.preset = LB_PRESET_LOW;
    // Prompts in the words that the demo model knows, and seeds.
    const lb::Session session(
        model,
        {{"a blue hot air balloon over green hills by day, sunny, photo", 34},
         {"a red lighthouse by the sea at night under a clear sky, with a full moon", 39}},
        options);
    session.prepare(shown("\nbranches"));

    const lb_session_info info = session.info();
    std::vector<char> pixels(std::size_t(info.width) * info.height * 3);
    const lb::Image image(pixels.data(), info.width, info.height, LB_FORMAT_RGB_U8);
    for (int number = 0; number < frames; ++number) {
        // Any t, in any order, is a frame of its own.
        session.render(frames > 1 ? double(number) / (frames - 1) : 0.0, image);
        write_ppm(number, pixels, info);
        std::cerr << "\rframes: " << number + 1 << " of " << frames;
    }
    std::cerr << '\n';
}

int main(int count, char **arguments) {
    try {
        run(count > 1 ? std::atoi(arguments[1]) : 25, count > 2 ? arguments[2] : nullptr);
        return EXIT_SUCCESS;
    } catch (const lb::Error &error) {
        std::cerr << '\n' << error.status_name() << ": " << error.what() << '\n';
    } catch (const std::exception &error) {
        std::cerr << '\n' << error.what() << '\n';
    }
    return EXIT_FAILURE;
}
