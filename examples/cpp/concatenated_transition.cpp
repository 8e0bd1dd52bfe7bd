// A ring of pictures, each of which becomes the next, in even time, and then a change of mind: PPM files
// frame_000.ppm, frame_001.ppm, ... The ring is kept in ring.safetensors, so that a second run finds its
// branches and its timing there.
//
//     c++ -std=c++17 concatenated_transition.cpp $(pkg-config --cflags --libs latentblend) -o concatenated_transition
//     ./concatenated_transition [FRAMES [MODEL]]
//
// MODEL is a folder or file of the Stable Diffusion 2 family; without it, the embedded demo model.
#include <latentblend.hpp>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace lb = latentblend;

static const char *const kept = "ring.safetensors";

// A call that shows how far it is.
static lb::Call shown(const char *name) {
    return lb::Call().on_progress([name](const lb::Progress &progress) {
        std::cerr << '\r' << name << ": " << static_cast<int>(100 * progress.fraction) << " %";
    });
}

// The ring of an earlier run with this model, or a new one.
static lb::Session ring(const lb::Model &model) {
    try {
        return lb::Session::load(model, kept);
    } catch (const lb::Error &error) {
        if (error.status() != LB_ERROR_NOT_FOUND) {
            std::cerr << kept << " is made anew: " << error.what() << '\n';
        }
    }
    lb::BlendOptions options;
    options.preset = LB_PRESET_LOW;
    options.looped = 1;
    const lb::Session plain(model,
                            {{"a blue hot air balloon over green hills by day, sunny, photo", 34},
                             {"a red lighthouse by the sea at night, with a full moon", 39},
                             {"a photo of a yellow sailing boat on a mountain lake at dawn", 5}},
                            options);
    plain.prepare(shown("branches"));
    // Equal change in equal times; each picture rests for a moment, and the first one the longest.
    const std::vector<lb::Segment> rests{
        {1.5, LB_EASING_IN_OUT}, {1.0, LB_EASING_IN_OUT}, {1.0, LB_EASING_IN_OUT}};
    lb::Session timed = plain.timed(lb::Timing(), rests, shown("\ntime"));
    timed.save(kept);
    return timed;
}

// Writes the frames at these places, as the next files.
static void write(const lb::Session &session, const std::vector<double> &times, int &number) {
    const lb_session_info info = session.info();
    std::vector<char> pixels(std::size_t(info.width) * info.height * 3);
    const lb::Image image(pixels.data(), info.width, info.height, LB_FORMAT_RGB_U8);
    for (const double t : times) {
        session.render(t, image);
        std::ostringstream name;
        name << "frame_" << std::setw(3) << std::setfill('0') << number << ".ppm";
        std::ofstream file;
        file.exceptions(std::ios::badbit | std::ios::failbit);
        file.open(name.str(), std::ios::binary);
        file << "P6\n" << info.width << ' ' << info.height << "\n255\n";
        file.write(pixels.data(), static_cast<std::streamsize>(pixels.size()));
        file.close();
        std::cerr << "\rframes: " << ++number;
    }
}

int main(int count, char **arguments) {
    try {
        const int frames = std::max(count > 1 ? std::atoi(arguments[1]) : 36, 2);
        const lb::Model model = count > 2 ? lb::Model::load(arguments[2]) : lb::Model::demo();
        const lb::Session session = ring(model);
        const std::vector<double> times = session.frame_times(static_cast<std::size_t>(frames));
        int number = 0;
        std::cerr << '\n';
        write(session, times, number);
        // From the very frame that is shown last to where nobody meant to go.
        const lb::Session away =
            session.extend(times.back(), {"a photo of palms in the desert at sunset under a clear sky", 7});
        std::vector<double> rest = away.frame_times(static_cast<std::size_t>(frames) / 2 + 1);
        rest.erase(rest.begin());
        write(away, rest, number);
        std::cerr << '\n';
        return EXIT_SUCCESS;
    } catch (const lb::Error &error) {
        std::cerr << '\n' << error.status_name() << ": " << error.what() << '\n';
    } catch (const std::exception &error) {
        std::cerr << '\n' << error.what() << '\n';
    }
    return EXIT_FAILURE;
}
