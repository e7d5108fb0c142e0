// Put at the head of a copy of report.html by test_report_in_browser.py: watches the page, tries it, tells its frame.
const problems = [];
addEventListener("error", (event) => problems.push(`error: ${event.message || event.target.outerHTML.slice(0, 200)}`), true);
document.addEventListener("securitypolicyviolation", (event) => problems.push(`asked for ${event.blockedURI.slice(0, 200)}`));

const pause = () => new Promise((done) => setTimeout(done, 10));
const shown = (element) => {
  const box = element.getBoundingClientRect();
  return box.height > 0 && box.bottom > 0 && box.top < innerHeight;
};
const path = (element) => `${element.tagName.toLowerCase()}${element.id ? "#" + element.id : ""}: ${element.textContent.trim().slice(0, 60)}`;

async function follow(link) {
  const href = link.getAttribute("href");
  if (!href.startsWith("#")) return { href, inside: false };
  scrollTo(0, 0);
  link.click();
  await pause();
  const target = document.getElementById(decodeURIComponent(href.slice(1)));
  return { href, inside: true, reached: location.hash === href && target !== null && shown(target) };
}

// What sticks out of the page sideways; a table in a box that scrolls may be wider than its box.
function wide() {
  return [...document.body.querySelectorAll("*")]
    .filter((element) => !element.parentElement.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 1)
    .map(path);
}

addEventListener("load", async () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  await pause();
  const images = [...document.images].map((image) => ({ alt: image.alt, drawn: image.complete && image.naturalWidth > 0 && image.clientWidth > 0 }));
  const links = [];
  for (const link of document.querySelectorAll("a[href]")) links.push(await follow(link));
  const root = document.documentElement;
  parent.postMessage({
    problems, images, links, wide: wide(), width: innerWidth, height: root.scrollHeight,
    overflow: root.scrollWidth - root.clientWidth,
    boxes: [...document.querySelectorAll(".scroll")].filter((box) => box.getBoundingClientRect().right > innerWidth).length,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 200)),
  }, "*");
});
