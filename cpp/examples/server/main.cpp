// runner_server PACKAGE [HOST [PORT]] : serves a package until SIGTERM or SIGINT; requests that have come in are answered first.
#include <trtbert/error.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <iostream>
#include <optional>
#include <string>
#include <thread>

#include "server.h"

namespace {

// Every thread starts with the signals blocked, so that one alone waits for them.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// 0 to 65535; nothing where the text is anything else.
std::optional<int> port_of(std::string const& text) {
  bool const are_digits = !text.empty() && text.size() <= 5 && text.find_first_not_of("0123456789") == std::string::npos;
  int const port = are_digits ? std::stoi(text) : -1;
  return port < 0 || port > 65535 ? std::nullopt : std::optional(port);
}

int serve(char const* package, std::string const& host, int port) {
  sigset_t const signals = block_signals();
  auto const predictor = trtbert::Predictor::load(package);
  httplib::Server server;
  add_routes(server, predictor);
  int const bound = port == 0 ? server.bind_to_any_port(host.c_str()) : server.bind_to_port(host.c_str(), port) ? port : -1;
  if (bound < 0) {
    std::cerr << "cannot listen on " << host << ", port " << port << ": another program may have it; give another port, or 0 for any\n";
    return 1;
  }
  std::atomic<bool> is_done{false};
  std::thread stopper([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    while (!is_done) {  // It may not listen yet.
      server.stop();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  std::cout << "serving " << package << " on http://" << host << ':' << bound << std::endl;
  bool const is_stopped = server.listen_after_bind();
  is_done = true;
  pthread_kill(stopper.native_handle(), SIGTERM);
  stopper.join();
  return is_stopped ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::cerr << "usage: runner_server PACKAGE [HOST [PORT]]\n";
    return 2;
  }
  auto const port = port_of(argc > 3 ? argv[3] : "8000");
  if (!port) {
    std::cerr << "the port must be a number of 0 to 65535, got " << argv[3] << '\n';
    return 2;
  }
  try {
    return serve(argv[1], argc > 2 ? argv[2] : "127.0.0.1", *port);
  } catch (trtbert::Error const& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
